// The address that a namespace uses towards a target, which getsockname shows to a redirected application.
#pragma once

#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "intercept/system/network_namespace.h"

namespace kveil::intercept {

// One address per target, with port 0; nullopt: no route. Asks the namespace's routes through one socket, and sends
// nothing. `family` may differ from a target's own, because a broker learned for it may have an address of either.
std::vector<std::optional<SocketAddress>> SourcesTowards(SocketMaker& maker, int namespaceFd,
                                                         absl::Span<const config::Target> targets, int family);

}  // namespace kveil::intercept
