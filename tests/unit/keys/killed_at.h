// Kills a process in the middle of its work, at any of the points where it changes something.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <optional>

namespace kveil::keys {

// What changes a file for good: a commit of SQLite, a root key file's next state.
inline bool ChangesAFile(const __ptrace_syscall_info& info) {
  if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return false;
#ifdef SYS_unlink  // not on arm64
  if (info.entry.nr == SYS_unlink || info.entry.nr == SYS_rename) return true;
#endif
  for (const uint64_t call : {SYS_fdatasync, SYS_fsync, SYS_renameat2, SYS_unlinkat, SYS_ftruncate}) {
    if (info.entry.nr == call) return true;
  }
  return false;
}
inline bool Writes(const __ptrace_syscall_info& info) {
  return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_pwrite64;
}

inline constexpr int kMayNotBeTraced = 77;  // as under an emulator, or where the kernel's settings forbid it

// Runs `work` in a process of its own, and kills it at the point with that number, counted from where it first stops
// itself: `isPoint` says of each entry to and exit from a system call whether it is one. False: it came to its end
// before. nullopt: processes may not be traced here.
template <typename IsPoint, typename Work>
std::optional<bool> IsKilledAt(int point, IsPoint isPoint, Work work) {
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(kMayNotBeTraced);
    work();
    _exit(0);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WUNTRACED), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kMayNotBeTraced) return std::nullopt;
  EXPECT_TRUE(WIFSTOPPED(status)) << status;
  EXPECT_EQ(ptrace(PTRACE_SETOPTIONS, child, nullptr, long{PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL}), 0);
  for (int passed = 0;;) {
    EXPECT_EQ(ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    if (!WIFSTOPPED(status)) {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
      return false;
    }
    __ptrace_syscall_info info{};
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    EXPECT_GT(ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), child, sizeof(info), &info), 0);
    if (!isPoint(info) || ++passed < point) continue;
    EXPECT_EQ(kill(child, SIGKILL), 0);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return true;
  }
}

}  // namespace kveil::keys
