// A directory of the cgroup v2 mount and what is below it: ids, paths, processes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class CgroupTree {
 public:
  // kInvalidArgument when `path` is not a directory of a cgroup v2 mount.
  static absl::StatusOr<CgroupTree> Open(const std::string& path);

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  // What bpf_get_current_cgroup_id and bpf_link_info say of this cgroup.
  uint64_t id() const { return id_; }

  // The directories from this one up to the mount's root, this one first.
  std::vector<std::string> PathsUpToRoot() const;
  // A warning in plain words when this is the root of the mount and yet not the host's root: inside a cgroup namespace
  // the mounted root is somewhere below, and workloads outside of it would not be seen. Empty otherwise.
  std::string NamespaceWarning() const;

  // Calls `visit` for every process in the tree but those of the child directory `except`. Processes come and go
  // meanwhile; one that forks and ends may be missed, its child is seen next time.
  void ForEachProcess(const std::string& except, const std::function<void(pid_t)>& visit) const;
  // Processes in the tree that are in a pid namespace which is not ours or below it, so that they have no number here.
  size_t CountHiddenProcesses() const;
  absl::flat_hash_set<uint64_t> IdsBelow() const;  // this one's included

 private:
  std::string path_;
  UniqueFd fd_;
  uint64_t id_ = 0;
};

// The path of a cgroup from the root of its hierarchy, or kNotFound when it is gone. `mountFd`: any directory of the
// mount. Needs CAP_DAC_READ_SEARCH.
absl::StatusOr<std::string> CgroupPathOf(int mountFd, const std::string& mountPoint, uint64_t cgroupId);

// The mount point that holds `path`.
std::string CgroupMountPoint(const std::string& path);

}  // namespace kveil::intercept
