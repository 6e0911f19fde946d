// Explains why the kernel refused an io_uring, and what an operator can do about it.
#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace kveil::io {

struct RingRefusal {
  int error = 0;                     // errno of io_uring_setup, io_uring_register or io_uring_enter
  int ioUringDisabled = 0;           // kernel.io_uring_disabled; 0 if the kernel lacks it
  bool systemAdministrator = false;  // CAP_SYS_ADMIN is in effect
  bool seccompFilter = false;        // a seccomp filter is installed
  uint64_t lockedMemoryLimit = 0;    // RLIMIT_MEMLOCK, bytes

  // Adds what /proc and this process's limits say to `error`.
  static RingRefusal Of(int error);
};

// kFailedPrecondition. The message names the cause (kernel.io_uring_disabled, seccomp, RLIMIT_MEMLOCK, the kernel's
// age, descriptors) and the remedy.
absl::Status Explain(const RingRefusal& refusal);

}  // namespace kveil::io
