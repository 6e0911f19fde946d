// The agent's listeners inside a namespace.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

struct Listeners {
  UniqueFd v4;  // 127.0.0.1
  UniqueFd v6;  // ::1, invalid where the namespace has no IPv6
};

enum class Families { kBoth, kOnlyV6 };

// Listening, non-blocking sockets at `port` in the namespace, made by a process in `cgroupFd`, not tagged yet. Two
// sockets and not a dual-stack one, which could only be bound to every address of the workload. kUnavailable in plain
// words: the port is taken, or lo is down.
absl::StatusOr<Listeners> MakeListeners(int cgroupFd, int namespaceFd, uint16_t port, Families families);

}  // namespace kveil::intercept
