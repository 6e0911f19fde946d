// Makes the agent's listeners inside a namespace.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

// Ports that only privileged processes may bind; few of them belong to a service.
inline constexpr uint16_t kFirstReservedPort = 700, kLastReservedPort = 852;

struct Listeners {
  UniqueFd v4;  // 127.0.0.1
  UniqueFd v6;  // ::1, invalid if the namespace has no IPv6
};

enum class Families { kBoth, kOnlyV6 };

// Where and with what listeners are made.
struct ListenerPlace {
  int cgroupFd;            // cgroup of the process that makes them
  int ownSocketsMap;       // the map that tags the agent's sockets
  uint16_t preferredPort;  // another one is used if it is taken
};

// Makes tagged, listening, non-blocking sockets in the namespace. Two of them, because a dual-stack socket could only
// be bound to every address of the workload; their ports may differ. A program that holds the preferred port cannot
// prevent this: the kernel then chooses a port, and if it has none left, some are tried at random, at last below 1024.
// kUnavailable says what the workloads there brought about: all those ports are taken, lo is down, the kernel has no
// memory for the socket (the tag counts towards the namespace's own net.core.optmem_max), or something else. Other
// codes: the agent lacks a process or descriptors, or may not enter.
absl::StatusOr<Listeners> MakeListeners(const ListenerPlace& place, int namespaceFd, Families families);

}  // namespace kveil::intercept
