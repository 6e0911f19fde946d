// An IPv4 or IPv6 address with a port, which is in host order.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kveil {

class SocketAddress {
 public:
  SocketAddress() = default;
  static SocketAddress V4(uint32_t networkOrderAddress, uint16_t port);
  static SocketAddress V6(const in6_addr& address, uint16_t port);
  // Parses a numeric address without a port ("10.0.0.1", "::1"); resolves no names. kInvalidArgument.
  static absl::StatusOr<SocketAddress> Parse(std::string_view address, uint16_t port);
  // From what accept, getsockname or getaddrinfo fills in. kInvalidArgument: another family.
  static absl::StatusOr<SocketAddress> From(const sockaddr* address, socklen_t length);

  int family() const { return storage_.ss_family; }
  uint16_t port() const;
  void setPort(uint16_t port);
  bool IsLoopback() const;  // 127.0.0.0/8 or ::1
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6); }

  std::string AddressText() const;  // "10.0.0.1", "::1"
  std::string Text() const;         // "10.0.0.1:9092", "[::1]:9092"

  friend bool operator==(const SocketAddress& a, const SocketAddress& b) { return a.Text() == b.Text(); }

 private:
  sockaddr_storage storage_ = {};
};

}  // namespace kveil
