// Many connections to brokers, served by one thread with epoll.
//
//   Crowd crowd([&](size_t connection, Bytes answer) { ... crowd.Send(connection, request); ... });
//   crowd.Open(brokers);
//   while (!done && crowd.failed() == 0) crowd.Turn(until);
//
// A connection that fails stays closed and is counted.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"

namespace kveil::load {

class Crowd {
 public:
  using Clock = std::chrono::steady_clock;
  // The answer is valid during the call.
  using OnAnswer = std::function<void(size_t connection, Bytes answer)>;

  explicit Crowd(OnAnswer onAnswer);

  // Opens one connection for each address and waits until each has answered ApiVersions or failed, a minute at most.
  // Those that nothing came of until then count as failed. To be called once.
  void Open(const std::vector<SocketAddress>& brokers);

  // Sends as much as the socket takes; keeps the rest.
  void Send(size_t connection, Bytes request);
  // Serves whoever is ready, and waits for that until then.
  void Turn(Clock::time_point until);

  bool IsOpen(size_t connection) const { return connections_[connection].isOpen; }
  size_t failed() const { return failed_; }
  const std::string& firstProblem() const { return firstProblem_; }

 private:
  struct Connection {
    UniqueFd fd;
    bool isOpen = false;  // it has answered once
    ByteBuffer toSend;
    ByteBuffer received;  // the start of an answer
  };

  void Connect(Connection& connection, const SocketAddress& broker);
  void Serve(size_t index, uint32_t events);
  void Receive(size_t index);
  // Hands over all whole answers; returns what is left.
  Bytes HandOver(size_t index, Bytes received);
  void Watch(size_t index, int operation, uint32_t events);
  void Fail(size_t index, const std::string& problem);

  OnAnswer onAnswer_;
  UniqueFd poll_;
  std::vector<Connection> connections_;
  std::vector<uint8_t> buffer_;
  size_t opened_ = 0;
  size_t failed_ = 0;
  std::string firstProblem_;
};

}  // namespace kveil::load
