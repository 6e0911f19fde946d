// One client that waits for each answer: what a single record, and a new connection, wait for.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "load/errors.h"
#include "load/histogram.h"

namespace kveil::load {

struct PingOptions {
  SocketAddress bootstrap;
  std::string topic;
  uint64_t count = 1000;
  uint64_t warmUp = 100;               // pings before these, which do not count
  std::chrono::microseconds pause{0};  // after each answer
  size_t size = 1024;                  // bytes of the value
  int16_t acks = 1;
};

struct PingResult {
  Histogram histogram;
  Errors errors;  // of pings
};

// Produces one record, waits for the answer, pauses, and so on.
absl::StatusOr<PingResult> RunPings(const PingOptions& options);

struct FirstAnswer {
  std::chrono::nanoseconds connected;
  std::chrono::nanoseconds answered;  // since the connect began
};

// Connects and asks for ApiVersions.
absl::StatusOr<FirstAnswer> MeasureFirstAnswer(const SocketAddress& broker);

}  // namespace kveil::load
