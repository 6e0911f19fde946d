// What the tests of io share: loops that end, and pairs of connected sockets.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/task.h"

namespace kveil::io {

inline Loop::Options SmallOptions() {
  Loop::Options options;
  options.receiveBufferCount = 4;
  return options;
}

class LoopTest : public testing::Test {
 protected:
  LoopTest() {
    // A hang is a failure, not a wait.
    ::alarm(120);
    absl::StatusOr<std::unique_ptr<Loop>> made = Loop::Create(SmallOptions());
    if (!made.ok()) ADD_FAILURE() << made.status();
    loop_ = *std::move(made);
  }
  ~LoopTest() override { ::alarm(0); }

  // Runs the tasks until all have ended.
  template <typename... Tasks>
  void RunToEnd(Tasks... tasks) {
    (loop_->Spawn(std::move(tasks)), ...);
    loop_->Stop();
    loop_->Run();
  }

  std::unique_ptr<Loop> loop_;
};

// A listening TCP socket on a free port of 127.0.0.1.
inline UniqueFd Listen(int backlog, SocketAddress* address) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress any = SocketAddress::V4(htonl(INADDR_LOOPBACK), 0);
  EXPECT_EQ(::bind(listener.get(), any.get(), any.size()), 0);
  EXPECT_EQ(::listen(listener.get(), backlog), 0);
  sockaddr_in bound{};
  socklen_t length = sizeof(bound);
  EXPECT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &length), 0);
  *address = SocketAddress::V4(htonl(INADDR_LOOPBACK), ntohs(bound.sin_port));
  return listener;
}

struct Pair {
  UniqueFd near;
  UniqueFd far;
};

inline Pair TcpPair() {
  SocketAddress address;
  const UniqueFd listener = Listen(1, &address);
  Pair pair;
  pair.near.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(pair.near.get(), address.get(), address.size()), 0) << std::strerror(errno);
  pair.far.Reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(pair.far.valid());
  return pair;
}

inline Deadline In(std::chrono::milliseconds time) { return std::chrono::steady_clock::now() + time; }

inline iovec SliceOf(std::string_view text) { return {const_cast<char*>(text.data()), text.size()}; }
inline MutableBytes BytesOf(std::string& text) { return {reinterpret_cast<uint8_t*>(text.data()), text.size()}; }

inline std::string RandomText(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& each : text) each = static_cast<char>(random());
  return text;
}

// Lets the loop go around once.
inline Task<void> OneTurn(Loop& loop) { co_await loop.Sleep(std::chrono::nanoseconds(0)); }

// Fills all of `into`. kOutOfRange when the stream ends before, or what Readable says.
inline Task<absl::Status> ReceiveAll(Socket& socket, MutableBytes into, Deadline deadline) {
  while (!into.empty()) {
    const absl::Status readable = co_await socket.Readable(deadline);
    if (!readable.ok()) co_return readable;
    const int received = co_await socket.Recv(into);
    if (received == 0) co_return absl::OutOfRangeError("the stream ended");
    if (received == -ECANCELED) co_return absl::CancelledError("cancelled");
    if (received < 0 && received != -EAGAIN) co_return absl::UnavailableError(std::strerror(-received));
    if (received > 0) into.remove_prefix(static_cast<size_t>(received));
  }
  co_return absl::OkStatus();
}

inline Task<void> CloseSocket(Socket& socket) {
  auto closing = socket.Close();
  co_await std::move(closing);
}

}  // namespace kveil::io
