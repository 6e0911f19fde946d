// No other process of the same user may look into this one.
#pragma once

#include <sys/prctl.h>
#include <sys/resource.h>

namespace kveil::cli {

// No core dump, and only a process with CAP_SYS_PTRACE may read the memory or take the descriptors, by ptrace, by
// /proc/PID or by pidfd_getfd (PR_SET_DUMPABLE in prctl(2), ptrace(2)). Until the next execve.
inline void ProtectMemory() {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

}  // namespace kveil::cli
