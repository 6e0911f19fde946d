// Stands for a broker of one node, on loopback: takes what the load generator sends, and keeps nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

#include "base/bytes.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "kafka/error_code.h"

namespace kveil::load {

class StubBroker {
 public:
  struct Manner {
    // Once so many Produce requests have come, it does nothing for that long.
    int stallsAfter = -1;
    std::chrono::milliseconds stall{0};
    // What it answers to Produce after so many.
    int failsAfter = -1;
    kafka::ErrorCode error = kafka::ErrorCode::kNone;
    // So many connections are served; others are closed.
    int mostConnections = 1000;
  };

  StubBroker() : StubBroker(Manner{}) {}
  explicit StubBroker(Manner manner);
  ~StubBroker();

  const SocketAddress& address() const { return address_; }

 private:
  void Serve();
  // The answer with its length.
  ByteBuffer AnswerTo(Bytes request);

  const Manner manner_;
  int produced_ = 0;
  int64_t offset_ = 0;
  SocketAddress address_;
  UniqueFd listener_;
  UniqueFd stop_;
  std::thread thread_;
};

}  // namespace kveil::load
