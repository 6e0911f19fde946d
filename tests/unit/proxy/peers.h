// The two peers of a connection as plain blocking sockets, and the frames that they exchange.
#pragma once

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "../io/harness.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "kafka/api.h"

namespace kveil::proxy {

inline std::string BigEndian(int64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<char>(value >> (8 * i)));
  return out;
}

inline std::string Framed(const std::string& content) {
  return StrCat(BigEndian(static_cast<int64_t>(content.size()), 4), content);
}

// Requests and responses of versions without tag sections; any bytes do for a body.
inline std::string RequestFrameOf(kafka::ApiKey apiKey, int32_t correlationId, std::string_view body,
                                  int16_t version = 1) {
  return Framed(StrCat(BigEndian(static_cast<int16_t>(apiKey), 2), BigEndian(version, 2), BigEndian(correlationId, 4),
                       BigEndian(-1, 2), body));
}
inline std::string ResponseFrameOf(int32_t correlationId, std::string_view body) {
  return Framed(StrCat(BigEndian(correlationId, 4), body));
}

// Bytes that tell their place, so that lost or swapped ones are seen.
inline std::string Pattern(size_t size, uint32_t seed = 1) {
  std::string bytes(size, '\0');
  uint32_t state = seed * 2654435761u + 1;
  for (char& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

// One end of a TCP connection. Whatever waits gives up after ten seconds and fails the test.
class Peer {
 public:
  Peer() = default;
  explicit Peer(UniqueFd fd) : fd_(std::move(fd)) {
    const timeval limit{10, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    const int on = 1;
    ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }

  int fd() const { return fd_.get(); }

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) {
        ADD_FAILURE() << "sending: " << std::strerror(errno);
        return;
      }
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }

  // Sends as much as is taken without anybody reading; returns how much that was.
  size_t SendUntilItStops(std::string_view bytes) {
    size_t taken = 0;
    pollfd wanted{fd_.get(), POLLOUT, 0};
    while (taken < bytes.size() && ::poll(&wanted, 1, 300) == 1) {
      const std::string_view rest = bytes.substr(taken);
      const ssize_t sent = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) continue;
      if (sent <= 0) break;
      taken += static_cast<size_t>(sent);
    }
    return taken;
  }

  // Exactly that many bytes, fewer when the stream ends before.
  std::string Receive(size_t size) {
    std::string bytes(size, '\0');
    size_t have = 0;
    while (have < size) {
      const ssize_t got = ::recv(fd_.get(), bytes.data() + have, size - have, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) ADD_FAILURE() << "receiving: " << std::strerror(errno);
      if (got <= 0) break;
      have += static_cast<size_t>(got);
    }
    bytes.resize(have);
    return bytes;
  }
  // A frame as it came, length included.
  std::string ReceiveFrame() {
    const std::string length = Receive(4);
    if (length.size() < 4) return length;
    uint32_t size = 0;
    for (const char byte : length) size = size << 8 | static_cast<uint8_t>(byte);
    return StrCat(length, Receive(size));
  }
  // Everything until the stream ends; `HowItEnded` then tells how.
  std::string ReceiveRest() {
    std::string bytes;
    char part[65536];
    for (;;) {
      const ssize_t got = ::recv(fd_.get(), part, sizeof(part), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        ended_ = got == 0 ? "in order" : errno == ECONNRESET ? "by a reset" : std::strerror(errno);
        return bytes;
      }
      bytes.append(part, static_cast<size_t>(got));
    }
  }
  // "in order" or "by a reset"; bytes that come before it are a failure.
  std::string HowItEnded() {
    if (!ended_.empty()) return ended_;
    EXPECT_EQ(ReceiveRest().size(), 0u) << "bytes that nobody expected";
    return ended_;
  }
  bool HasBytesWithin(int milliseconds) {
    pollfd wanted{fd_.get(), POLLIN, 0};
    return ::poll(&wanted, 1, milliseconds) == 1;
  }

  void EndSending() { ::shutdown(fd_.get(), SHUT_WR); }
  void Reset() {
    const linger reset{1, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    fd_.Reset();
  }
  void Close() { fd_.Reset(); }

 private:
  UniqueFd fd_;
  std::string ended_;
};

}  // namespace kveil::proxy
