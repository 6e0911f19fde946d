// The end-to-end check before the agent reports that it is ready: a connect from a cgroup like any workload's must
// arrive.
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
  // To be called when the origin of an accepted connection turns out to be the probe.
  void Arrived();
  // Connects from a child process in the cgroup, and waits for Arrived, at most for `limit`. kUnavailable says how the
  // connect failed. kDeadlineExceeded: it was redirected but not accepted.
  absl::Status Run(int cgroupFd, std::chrono::milliseconds limit);

 private:
  UniqueFd arrived_;  // eventfd
};

}  // namespace kveil::intercept
