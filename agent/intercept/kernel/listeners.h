// The agent's listeners inside a namespace.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

// Ports that only the privileged may bind, and of which few are a service's.
inline constexpr uint16_t kFirstReservedPort = 700, kLastReservedPort = 852;

struct Listeners {
  UniqueFd v4;  // 127.0.0.1
  UniqueFd v6;  // ::1, invalid where the namespace has no IPv6
};

enum class Families { kBoth, kOnlyV6 };

// Where and as whom listeners are made.
struct ListenerPlace {
  int cgroupFd;            // of the cgroup whose process makes them
  int ownSocketsMap;       // the map that tags the agent's sockets
  uint16_t preferredPort;  // another one where this is taken
};

// Tagged, listening, non-blocking sockets in the namespace. Two sockets and not a dual-stack one, which could only be
// bound to every address of the workload; their ports may differ. A program that holds the preferred port does not keep
// the namespace from being served: the kernel then chooses one, and where it has none left some are tried at random, at
// last below 1024.
// kUnavailable in plain words: all those are taken, or lo is down, or the kernel has no memory for the socket (the tag
// counts towards the namespace's own net.core.optmem_max), or whatever else those who live there brought about.
// Other codes: the agent lacks a process or descriptors, or may not enter.
absl::StatusOr<Listeners> MakeListeners(const ListenerPlace& place, int namespaceFd, Families families);

}  // namespace kveil::intercept
