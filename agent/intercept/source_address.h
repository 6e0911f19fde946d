// Which address a namespace uses towards a target: what getsockname shows a redirected application.
#pragma once

#include <optional>

#include "base/socket_address.h"
#include "intercept/network_namespace.h"
#include "policy/config.h"

namespace kveil::intercept {

// Asks the namespace's routes; sends nothing. nullopt: no route. `family` may be the one that the target does not have:
// a broker that was learned for it may have an address of either.
std::optional<SocketAddress> SourceTowards(SocketMaker& maker, int namespaceFd, const policy::Target& target,
                                           int family);

}  // namespace kveil::intercept
