// Converts addresses between the agent, SocketAddress, and the kernel half, kveil_endpoint.
#pragma once

#include <array>
#include <cstdint>

#include "base/socket_address.h"
#include "intercept.h"

namespace kveil::intercept {

// 16 bytes in network order, an IPv4 address in the first four.
using AddressBytes = std::array<uint8_t, 16>;

// A v4-mapped IPv6 address becomes IPv4 in both directions.
kveil_endpoint ToEndpoint(const SocketAddress& address);
SocketAddress ToSocketAddress(const kveil_endpoint& endpoint);
SocketAddress WithoutMapping(const SocketAddress& address);

AddressBytes ToBytes(const kveil_endpoint& endpoint);

// Where the agent's probe connects to.
SocketAddress ProbeDestination();

}  // namespace kveil::intercept
