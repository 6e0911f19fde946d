// Which network namespaces the processes of a cgroup tree live in.
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

// One look at all processes of a cgroup tree, in turns: users make as many cgroups and processes as they like, and
// others are not to wait until all of them have been seen. The agent's own cgroup is left out. Processes come and go
// meanwhile; one that forks and ends, or that moves to where the scan has been, may be missed.
//
// Cost: a readdir and a read a cgroup, a stat a process.
class WorkloadScan {
 public:
  using Clock = std::chrono::steady_clock;

  // `cgroups` must outlive it. `seesAll`: no process can be hidden.
  explicit WorkloadScan(const CgroupTree& cgroups, bool seesAll = IsInFirstPidNamespace());

  // Goes on until everything has been seen, and then returns true, or until `end`. It goes on a little in any case.
  bool GoOn(Clock::time_point end);

  // Inode of each namespace and its process with the lowest number, which is mostly the oldest.
  const absl::flat_hash_map<uint64_t, Resident>& found() const { return found_; }
  // Why something may have been missed: not OK where a directory could not be read that is there.
  const absl::Status& problem() const { return problem_; }
  // Processes in a pid namespace that is not ours or below it, so that they have no number here.
  size_t hidden() const { return hidden_; }

 private:
  struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
  };
  // A directory on the way to the one that is being looked at.
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
  UniqueFd processes_;     // its cgroup.procs, until that has been read
  bool isAtStart_ = true;  // of that file
  std::string partOfLine_;
  absl::flat_hash_map<uint64_t, Resident> found_;
  size_t hidden_ = 0;
  absl::Status problem_;
};

}  // namespace kveil::intercept
