// Conversions of addresses between agent and kernel half.
#include "intercept/kernel/endpoint.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace kveil::intercept {

kveil_endpoint ToEndpoint(const SocketAddress& address) {
  kveil_endpoint endpoint = {};
  endpoint.port = address.port();
  if (address.family() == AF_INET) {
    endpoint.family = KVEIL_FAMILY_V4;
    std::memcpy(endpoint.address, &reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr, 4);
    return endpoint;
  }
  const in6_addr& in6 = reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&in6)) {
    endpoint.family = KVEIL_FAMILY_V4;
    std::memcpy(endpoint.address, &in6.s6_addr[12], 4);
  } else {
    endpoint.family = KVEIL_FAMILY_V6;
    std::memcpy(endpoint.address, &in6, sizeof(in6));
  }
  return endpoint;
}

SocketAddress ToSocketAddress(const kveil_endpoint& endpoint) {
  if (endpoint.family == KVEIL_FAMILY_V4) {
    uint32_t v4;
    std::memcpy(&v4, endpoint.address, sizeof(v4));
    return SocketAddress::V4(v4, endpoint.port);
  }
  in6_addr v6;
  std::memcpy(&v6, endpoint.address, sizeof(v6));
  return SocketAddress::V6(v6, endpoint.port);
}

SocketAddress WithoutMapping(const SocketAddress& address) { return ToSocketAddress(ToEndpoint(address)); }

AddressBytes ToBytes(const kveil_endpoint& endpoint) {
  AddressBytes bytes;
  std::copy(std::begin(endpoint.address), std::end(endpoint.address), bytes.begin());
  return bytes;
}

SocketAddress ProbeDestination() { return SocketAddress::V4(htonl(0x7ffffffe), KVEIL_PROBE_PORT); }  // 127.255.255.254

}  // namespace kveil::intercept
