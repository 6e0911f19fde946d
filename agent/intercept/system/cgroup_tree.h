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
  // kInvalidArgument when `path` is not a directory of a cgroup v2 mount.
  static absl::StatusOr<CgroupTree> Open(const std::string& path);

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  const std::string& mountPoint() const { return mountPoint_; }
  // What bpf_get_current_cgroup_id and bpf_link_info say of this cgroup.
  uint64_t id() const { return id_; }
  // How far below this cgroup one that counts as one workload is. Three levels below the host's root in any case, where
  // everybody's cgroups that he manages himself begin (user.slice/user-1000.slice/user@1000.service), but that of a
  // cgroup so far down itself: what is below that, three levels below it. So it is, too, where the host's root is not
  // to be seen.
  int workloadLevel() const { return workloadLevel_; }

  // The directories from this one up to the mount's root, this one first.
  std::vector<std::string> PathsUpToRoot() const;
  // A warning in plain words when this is the root of the mount and yet not the host's root: inside a cgroup namespace
  // the mounted root is somewhere below, and workloads outside of it would not be seen. Empty otherwise.
  std::string NamespaceWarning() const;

  // The path of a cgroup from the mount's root, "/a/b" or "/"; kNotFound when it is gone, or not below that root;
  // kUnavailable: that cannot be told (no descriptors). Needs CAP_DAC_READ_SEARCH.
  absl::StatusOr<std::string> PathOf(uint64_t cgroupId) const;
  // Whose share of what all workloads share such a path counts towards: the path of a cgroup (identity/cgroup_path.h).
  std::string ShareOf(std::string_view cgroupPath) const;
  // The same of a cgroup. Where it is gone, of `above`, a cgroup above it that whoever was in it could not remove;
  // empty where that is gone, too.
  std::string ShareOf(uint64_t cgroupId, uint64_t above) const;

  // Whether a cgroup is this one or below it; kUnavailable: as above. Needs CAP_DAC_READ_SEARCH.
  absl::StatusOr<bool> Contains(uint64_t cgroupId) const;
  // A directory of the mount as a path from the mount's root.
  std::string PathFromRoot(std::string_view directory) const;

 private:
  std::string path_;
  std::string mountPoint_;
  UniqueFd fd_;
  uint64_t id_ = 0;
  int workloadLevel_ = 0;
};

}  // namespace kveil::intercept
