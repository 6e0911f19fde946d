// Which address a namespace uses towards a target: what getsockname shows a redirected application.
#pragma once

#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "intercept/system/network_namespace.h"

namespace kveil::intercept {

// One for each target, with port 0. Asks the namespace's routes, through one socket; sends nothing. nullopt: no route.
// `family` may be the one that a target does not have: a broker that was learned for it may have an address of either.
std::vector<std::optional<SocketAddress>> SourcesTowards(SocketMaker& maker, int namespaceFd,
                                                         absl::Span<const config::Target> targets, int family);

}  // namespace kveil::intercept
