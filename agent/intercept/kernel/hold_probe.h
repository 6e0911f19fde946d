// The probe that tells whether the first connect in a new namespace is held until the agent serves it.
#pragma once

#include <chrono>

#include "absl/status/status.h"

namespace kveil::intercept {

// Makes a child process in the cgroup enter a new network namespace and connect to the probe's destination. OK when it
// is connected within `limit`. kUnavailable: its connect ended with an error, which is named.
absl::Status RunHoldProbe(int cgroupFd, std::chrono::milliseconds limit);

}  // namespace kveil::intercept
