#include "base/socket_address.h"

#include <arpa/inet.h>

#include <cstring>

#include "base/text.h"

namespace kveil {

SocketAddress SocketAddress::V4(uint32_t networkOrderAddress, uint16_t port) {
  SocketAddress result;
  auto& in = reinterpret_cast<sockaddr_in&>(result.storage_);
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = networkOrderAddress;
  in.sin_port = htons(port);
  return result;
}

SocketAddress SocketAddress::V6(const in6_addr& address, uint16_t port) {
  SocketAddress result;
  auto& in = reinterpret_cast<sockaddr_in6&>(result.storage_);
  in.sin6_family = AF_INET6;
  in.sin6_addr = address;
  in.sin6_port = htons(port);
  return result;
}

absl::StatusOr<SocketAddress> SocketAddress::Parse(std::string_view address, uint16_t port) {
  const std::string text(address);
  in_addr v4;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return V4(v4.s_addr, port);
  in6_addr v6;
  if (inet_pton(AF_INET6, text.c_str(), &v6) == 1) return V6(v6, port);
  return absl::InvalidArgumentError(StrCat("not an IPv4 or IPv6 address: '", address, "'"));
}

absl::StatusOr<SocketAddress> SocketAddress::From(const sockaddr* address, socklen_t length) {
  SocketAddress result;
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    std::memcpy(&result.storage_, address, sizeof(sockaddr_in));
    return result;
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    std::memcpy(&result.storage_, address, sizeof(sockaddr_in6));
    return result;
  }
  return absl::InvalidArgumentError(StrCat("address family ", address->sa_family, " is neither IPv4 nor IPv6"));
}

uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(storage_).sin_port);
  return ntohs(reinterpret_cast<const sockaddr_in6&>(storage_).sin6_port);
}

void SocketAddress::setPort(uint16_t port) {
  if (family() == AF_INET) {
    reinterpret_cast<sockaddr_in&>(storage_).sin_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in6&>(storage_).sin6_port = htons(port);
  }
}

bool SocketAddress::IsLoopback() const {
  if (family() == AF_INET) {
    return ntohl(reinterpret_cast<const sockaddr_in&>(storage_).sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
  }
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(storage_).sin6_addr);
}

std::string SocketAddress::AddressText() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(storage_).sin_addr, text, sizeof(text));
  } else if (family() == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(storage_).sin6_addr, text, sizeof(text));
  }
  return text;
}

std::string SocketAddress::Text() const {
  if (family() == AF_INET6) return StrCat("[", AddressText(), "]:", port());
  return StrCat(AddressText(), ":", port());
}

}  // namespace kveil
