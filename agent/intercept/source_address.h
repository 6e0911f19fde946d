// Which address a namespace uses towards a target: what getsockname shows a redirected application.
#pragma once

#include <optional>

#include "base/socket_address.h"
#include "intercept/network_namespace.h"
#include "policy/config.h"

namespace kveil::intercept {

// Asks the namespace's routes; sends nothing. nullopt: no route, or the address is loopback anyhow.
std::optional<SocketAddress> SourceTowards(SocketMaker& maker, int namespaceFd, const policy::Target& target);

}  // namespace kveil::intercept
