// A directory of the cgroup v2 mount and what is below it: ids, paths, shares.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class CgroupTree {
 public:
  // kInvalidArgument: `path` is not a directory of a cgroup v2 mount.
  static absl::StatusOr<CgroupTree> Open(const std::string& path);

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  const std::string& mountPoint() const { return mountPoint_; }
  // The id that bpf_get_current_cgroup_id and bpf_link_info report for this cgroup.
  uint64_t id() const { return id_; }
  // How many levels below this cgroup a cgroup counts as one workload: such that it is three levels below the host's
  // root, where the cgroups that users manage themselves begin (user.slice/user-1000.slice/user@1000.service). Three
  // levels below this cgroup if it is that far down itself, or if the host's root cannot be seen.
  int workloadLevel() const { return workloadLevel_; }

  // The directories from this one up to the mount's root, this one first.
  std::vector<std::string> PathsUpToRoot() const;
  // A warning if this is the root of the mount but not the host's root: in a cgroup namespace, the mounted root is
  // somewhere below, and workloads outside it would be missed. Empty otherwise.
  std::string NamespaceWarning() const;

  // The path of a cgroup from the mount's root, "/a/b" or "/". kNotFound: it is gone, or not below that root.
  // kUnavailable: there is no way to tell (no descriptors). Needs CAP_DAC_READ_SEARCH.
  absl::StatusOr<std::string> PathOf(uint64_t cgroupId) const;
  // The share that a cgroup path counts towards, which is a cgroup path, too (identity/cgroup_path.h).
  std::string ShareOf(std::string_view cgroupPath) const;
  // The same for a cgroup. If it is gone, the share of `above`, a cgroup above it that its processes could not remove;
  // empty if that is gone, too.
  std::string ShareOf(uint64_t cgroupId, uint64_t above) const;

  // Whether a cgroup is this one or below it. kUnavailable as for PathOf. Needs CAP_DAC_READ_SEARCH.
  absl::StatusOr<bool> Contains(uint64_t cgroupId) const;
  // The path of a directory of the mount, from the mount's root.
  std::string PathFromRoot(std::string_view directory) const;

 private:
  std::string path_;
  std::string mountPoint_;
  UniqueFd fd_;
  uint64_t id_ = 0;
  int workloadLevel_ = 0;
};

}  // namespace kveil::intercept
