// The listener of a test's fake service on loopback: a thread per connection.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace kveil::io {

class FakeServer {
 public:
  FakeServer() = default;
  virtual ~FakeServer() = default;
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  // Whoever derives from it calls Start and, before its end, Stop. Connections are refused after Stop, and those that
  // are open end. Start takes the same port again.
  void Stop() {
    isStopping_ = true;
    if (accepting_.joinable()) accepting_.join();
    listener_.Reset();
  }
  void Start() {
    isStopping_ = false;
    listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port_);
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0) << strerror(errno);
    ASSERT_EQ(listen(listener_.get(), 64), 0);
    socklen_t size = sizeof address;
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    accepting_ = std::thread([this] { Accept(); });
  }
  uint16_t port() const { return port_; }

 protected:
  // On a thread of the connection. Ends soon once isStopping.
  virtual void Serve(int fd) = 0;
  bool isStopping() const { return isStopping_; }

 private:
  void Accept() {
    std::vector<std::thread> connections;
    while (!isStopping_) {
      pollfd ready{listener_.get(), POLLIN, 0};
      if (poll(&ready, 1, 5) != 1) continue;
      UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (fd.valid()) connections.emplace_back([this, fd = std::move(fd)] { Serve(fd.get()); });
    }
    for (std::thread& connection : connections) connection.join();
  }

  UniqueFd listener_;
  uint16_t port_ = 0;
  std::atomic<bool> isStopping_{false};
  std::thread accepting_;
};

}  // namespace kveil::io
