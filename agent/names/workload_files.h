// The files by which a process looks names up, read from outside.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace kveil::names {

struct WorkloadFiles {
  std::string hosts, resolverConfig, nsswitch;  // empty where there is none
};

// Reads them in the root directory of `process`, which has to live in the network namespace with this inode number.
// What is there belongs to the workload, so it is taken for what it is: symbolic links end inside that root and do not
// lead through /proc, only regular files of a bounded size are opened, none of them of /proc and its kind. May block as
// long as the workload's file systems do. kNotFound: no such process; kFailedPrecondition: a file is something else.
absl::StatusOr<WorkloadFiles> ReadWorkloadFiles(pid_t process, uint64_t netnsInode);

// The same below a root directory that is open.
absl::StatusOr<WorkloadFiles> ReadFilesIn(int root);

// Tells two views of names apart, from what /proc says without touching the workload's file systems.
std::string ViewOf(pid_t process);

}  // namespace kveil::names
