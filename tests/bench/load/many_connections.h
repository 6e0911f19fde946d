// Throughput beside connections that do nothing: many are open, some of them produce as fast as the broker answers.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "load/errors.h"
#include "load/histogram.h"

namespace kveil::load {

struct ManyConnectionsOptions {
  SocketAddress bootstrap;
  std::string topic;
  size_t open = 50;
  size_t active = 50;  // of these
  int32_t partitions = 10;
  double seconds = 10;
  double warmUp = 2;    // seconds before that which do not count
  size_t size = 1024;   // bytes of the one record in each batch
  size_t inFlight = 5;  // requests of a connection that are not answered
  int16_t acks = -1;
};

struct ManyConnectionsResult {
  double openSeconds = 0;  // until all had answered ApiVersions
  uint64_t batches = 0;    // acknowledged while the seconds ran
  Histogram latency;       // of these, from sent to acknowledged
  Errors errors;           // of requests, and of connections that failed
};

absl::StatusOr<ManyConnectionsResult> RunManyConnections(const ManyConnectionsOptions& options);

// Lets the process open so many descriptors. kPermissionDenied: the hard limit is lower, and it may not be raised.
absl::Status AllowDescriptors(size_t count);

}  // namespace kveil::load
