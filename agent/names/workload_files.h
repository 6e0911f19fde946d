// Reads, from outside, the files with which a process looks names up.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace kveil::names {

struct WorkloadFiles {
  std::string hosts, resolverConfig, nsswitch;  // empty if missing
};

// Reads them below the root directory of `process`, which must live in the network namespace with this inode number.
// The workload controls what is there, so nothing is trusted: symbolic links end inside that root and do not lead
// through /proc, and only regular files of at most 4 MiB are opened, none of them in /proc or its kind. May block as
// long as the workload's file systems do. kNotFound: no such process there. kPermissionDenied: its root cannot be
// opened. kFailedPrecondition: a file is something else.
absl::StatusOr<WorkloadFiles> ReadWorkloadFiles(pid_t process, uint64_t netnsInode);

// The same below an open root directory.
absl::StatusOr<WorkloadFiles> ReadFilesIn(int root);

// Tells two views of names apart by what /proc says, without touching the workload's file systems. Empty: the process
// is gone.
std::string ViewOf(pid_t process);

}  // namespace kveil::names
