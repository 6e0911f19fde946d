// Which network namespaces the processes of a cgroup tree live in.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/unique_fd.h"
#include "intercept/cgroup_tree.h"

namespace kveil::intercept {

// A process that shows that a namespace is in use, and tells when it ends.
struct Witness {
  pid_t pid = 0;
  std::string file;  // its namespace file, a thread's perhaps
  UniqueFd pidFd;    // readable when it has ended
};

// kNotFound when the process has ended.
absl::StatusOr<Witness> Watch(pid_t pid, std::string file);

// Who shows that a namespace is in use.
struct Resident {
  pid_t pid = 0;
  std::string cgroupPath;  // from the mount's root
};

// Inode of each namespace and its process with the lowest number, which is mostly the oldest. Cost: a readdir and a
// read a cgroup, a stat a process.
absl::flat_hash_map<uint64_t, Resident> FindNamespaces(const CgroupTree& cgroups);

}  // namespace kveil::intercept
