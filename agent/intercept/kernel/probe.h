// The end-to-end check before the agent calls itself ready: a connect from a cgroup like any workload's must arrive.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class Probe {
 public:
  Probe();
  // Whoever reads the origin of an accepted connection and finds the probe calls this.
  void Arrived();
  // kUnavailable with what happened to the connect instead; kDeadlineExceeded when it was redirected and nobody
  // accepted it.
  absl::Status Run(int cgroupFd, std::chrono::milliseconds limit);

 private:
  UniqueFd arrived_;  // eventfd
};

}  // namespace kveil::intercept
