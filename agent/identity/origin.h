// Where a redirected connection was going and who opened it, before either has a name.
#pragma once

#include <cstdint>

#include "base/socket_address.h"

namespace kveil::identity {

// As the kernel saw it at connect time.
struct Origin {
  SocketAddress destination;
  SocketAddress source;  // the application's end: loopback, or the address that it had bound itself
  uint64_t netnsCookie = 0;
  uint64_t cgroupId = 0;
  uint64_t shareCgroupId = 0;  // that cgroup or one above it: what the kernel half counts as the workload
  uint32_t uid = 0;
  uint32_t pid = 0;
  uint32_t boundDevice = 0;  // interface that the application had bound its socket to, 0 if none
  uint16_t targetIndex = 0;  // into InterceptConfig::targets
  bool isProbe = false;      // the agent's own probe: close it, no target belongs to it
};

}  // namespace kveil::identity
