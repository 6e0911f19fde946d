// Which workload a client is, as the kernel attests it.
#pragma once

#include <cstdint>
#include <string>

namespace kveil::identity {

struct Workload {
  std::string cgroupPath;  // from the root of the hierarchy, "/system.slice/x.service"
  std::string unit;        // the outermost systemd unit in cgroupPath, empty if none
  // The cgroup that it cannot leave without a privilege (cgroup_path.h). Clients with the same share count as one
  // workload, wherever shares are counted.
  std::string share;
  uint32_t uid = 0;
  uint32_t pid = 0;

  // What log lines call it: its unit, else its cgroup.
  const std::string& name() const { return unit.empty() ? cgroupPath : unit; }
};

}  // namespace kveil::identity
