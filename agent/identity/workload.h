// Which workload a client is, as the kernel attests it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/text.h"
#include "identity/pod.h"

namespace kveil::identity {

struct Workload {
  std::string cgroupPath;  // from the root of the hierarchy, "/system.slice/x.service"
  std::string unit;        // the outermost systemd unit in cgroupPath, empty if none
  // The cgroup that it cannot leave without a privilege (cgroup_path.h). Clients with the same share count as one
  // workload, wherever shares are counted.
  std::string share;
  std::string podUid;              // of the Kubernetes pod in cgroupPath, empty if none
  std::shared_ptr<const Pod> pod;  // that pod, nullptr if there is none or it is not known: it is no one then
  uint32_t uid = 0;
  uint32_t pid = 0;

  // What log lines call it: its pod, else its unit, else its cgroup.
  std::string name() const {
    if (pod != nullptr) return StrCat("pod ", pod->nameSpace, "/", pod->name);
    return unit.empty() ? cgroupPath : unit;
  }
};

}  // namespace kveil::identity
