// Probes whether the first connect in a new namespace is held until the agent serves it.
#pragma once

#include <chrono>

#include "absl/status/status.h"

namespace kveil::intercept {

// A child process in the cgroup enters a new network namespace and connects to the probe's destination. OK: it is
// connected within `limit`. kUnavailable names the error of its connect. kDeadlineExceeded: it had no outcome.
absl::Status RunHoldProbe(int cgroupFd, std::chrono::milliseconds limit);

}  // namespace kveil::intercept
