// Scans the processes of a cgroup tree.
#include "intercept/workload_scan.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "intercept/agent_cgroup.h"
#include "intercept/network_namespace.h"

namespace kveil::intercept {

absl::StatusOr<Witness> Watch(pid_t pid, std::string file) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) return absl::NotFoundError(StrCat("cannot watch process ", pid, ": ", std::strerror(errno)));
  return Witness{.pid = pid, .file = std::move(file), .pidFd = std::move(fd)};
}

absl::flat_hash_map<uint64_t, Resident> FindNamespaces(const CgroupTree& cgroups) {
  absl::flat_hash_map<uint64_t, Resident> found;
  cgroups.ForEachProcess(AgentCgroup::kName, [&found](pid_t pid, const std::string& cgroupPath) {
    const uint64_t inode = NamespaceInode(NamespaceFile(pid));  // 0 for a zombie, too
    if (inode == 0) return;
    Resident& resident = found[inode];
    if (resident.pid == 0 || pid < resident.pid) resident = {.pid = pid, .cgroupPath = cgroupPath};
  });
  return found;
}

}  // namespace kveil::intercept
