// Connects a UDP socket, which only looks up the route, and reads its address.
#include "intercept/namespaces/source_address.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "intercept/kernel/endpoint.h"

namespace kveil::intercept {
namespace {

// Some address of the network that is not the network's own, which may count as a broadcast address.
SocketAddress HostOf(const config::Target& target, int family) {
  if (target.prefixLength == 0 || target.network.family() != family) {
    in6_addr documentation = {};  // 2001:db8::1 and 192.0.2.1 take the default route
    documentation.s6_addr[0] = 0x20, documentation.s6_addr[1] = 0x01, documentation.s6_addr[2] = 0x0d;
    documentation.s6_addr[3] = 0xb8, documentation.s6_addr[15] = 1;
    return family == AF_INET ? SocketAddress::V4(htonl(0xc0000201), target.ports.front().first)
                             : SocketAddress::V6(documentation, target.ports.front().first);
  }
  kveil_endpoint endpoint = ToEndpoint(target.network);
  const bool isV4 = endpoint.family == KVEIL_FAMILY_V4;
  if (target.prefixLength < (isV4 ? 31 : 127)) endpoint.address[isV4 ? 3 : 15] |= 1;
  endpoint.port = target.ports.front().first;
  return ToSocketAddress(endpoint);
}

// Connecting to an address of no family takes back what an earlier connect has chosen.
std::optional<SocketAddress> SourceOf(int fd, const SocketAddress& host) {
  const sockaddr nowhere = {.sa_family = AF_UNSPEC, .sa_data = {}};
  sockaddr_storage local = {};
  socklen_t size = sizeof(local);
  if (::connect(fd, &nowhere, sizeof(nowhere)) < 0 || ::connect(fd, host.get(), host.size()) < 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) < 0) {
    return std::nullopt;
  }
  absl::StatusOr<SocketAddress> address = SocketAddress::From(reinterpret_cast<const sockaddr*>(&local), size);
  if (!address.ok()) return std::nullopt;
  address->setPort(0);
  return *address;
}

}  // namespace

std::vector<std::optional<SocketAddress>> SourcesTowards(SocketMaker& maker, int namespaceFd,
                                                         absl::Span<const config::Target> targets, int family) {
  std::vector<std::optional<SocketAddress>> sources(targets.size());
  const absl::StatusOr<UniqueFd> fd = maker.Make(namespaceFd, family, SOCK_DGRAM, 0);
  if (!fd.ok()) return sources;
  for (size_t i = 0; i < targets.size(); ++i) sources[i] = SourceOf(fd->get(), HostOf(targets[i], family));
  return sources;
}

}  // namespace kveil::intercept
