// Latency at a rate: records are due at fixed times, whatever the broker does, and a record's latency counts from the
// time it was due. So a broker that halts for a second has a second's worth of late records, as it would have with real
// applications (no "coordinated omission").
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "load/errors.h"
#include "load/histogram.h"

namespace kveil::load {

struct OpenLoopOptions {
  SocketAddress bootstrap;
  std::string topic;
  double rate = 1000;  // records per second, of all connections
  double seconds = 10;
  double warmUp = 2;   // seconds before that whose records do not count
  size_t size = 1024;  // bytes of a value
  int16_t acks = -1;
  size_t connections = 1;  // each produces to a partition of its own
  bool fetch = false;      // also read the records, and measure until they have come
};

struct OpenLoopResult {
  Histogram produced;  // from due to acknowledged
  Histogram fetched;   // from due to read, with `fetch`
  Errors errors;       // of records
};

// Ends at most half a minute after the last record was due; what has not come until then are errors. As Kafka's own
// producer does without linger, a connection sends what is due at once unless five requests are not answered yet; what
// is due meanwhile goes out as one batch, of at most 128 KiB.
absl::StatusOr<OpenLoopResult> RunOpenLoop(const OpenLoopOptions& options);

}  // namespace kveil::load
