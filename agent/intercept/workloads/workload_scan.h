// Finds the network namespaces in which the processes of a cgroup tree live.
#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "intercept/system/cgroup_tree.h"
#include "intercept/system/host_mount.h"

namespace kveil::intercept {

// A process that shows that a namespace is in use, and a descriptor that tells when it ends.
struct Witness {
  pid_t pid = 0;
  std::string file;  // its namespace file, or that of one of its threads
  UniqueFd pidFd;    // readable when it has ended
};

// kNotFound: the process has ended.
absl::StatusOr<Witness> Watch(pid_t pid, std::string file);

// A process that lives in a namespace.
struct Resident {
  pid_t pid = 0;
  std::string cgroupPath;  // from the mount's root
};

// One pass over all processes of a cgroup tree, in turns: users may make any number of cgroups and processes, and other
// work must not wait until all of them have been seen. Skips the agent's own cgroup. Processes come and go meanwhile:
// one that forks and ends, or moves to where the scan has been, may be missed.
//
// Cost: a readdir and a read per cgroup, a stat per process.
class WorkloadScan {
 public:
  using Clock = std::chrono::steady_clock;

  // `cgroups` must outlive it. `seesAll`: no process can be hidden.
  explicit WorkloadScan(const CgroupTree& cgroups, bool seesAll = IsInFirstPidNamespace());

  // Continues until everything has been seen or until `end`, and makes some progress in any case. Returns whether
  // everything has been seen.
  bool GoOn(Clock::time_point end);

  // By inode of the namespace: its process with the lowest number, usually the oldest.
  const absl::flat_hash_map<uint64_t, Resident>& found() const { return found_; }
  // Why something may have been missed: not OK if an existing directory could not be read.
  const absl::Status& problem() const { return problem_; }
  // Processes in a pid namespace that is neither ours nor below it, so that they have no number here.
  size_t hidden() const { return hidden_; }

 private:
  struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
  };
  // A directory on the way to the current one.
  struct Level {
    std::unique_ptr<DIR, CloseDirectory> directory;
    size_t pathLength;
  };

  void Enter(const std::string& directory);
  void EnterNext();
  void ReadProcesses();
  void Visit(int pid);
  void NoteError(int error);

  const CgroupTree& cgroups_;
  const bool seesAll_;
  std::vector<Level> levels_;
  std::string path_;       // of the last level
  UniqueFd processes_;     // its cgroup.procs, until it has been read
  bool isAtStart_ = true;  // of that file
  std::string partOfLine_;
  absl::flat_hash_map<uint64_t, Resident> found_;
  size_t hidden_ = 0;
  absl::Status problem_;
};

}  // namespace kveil::intercept
