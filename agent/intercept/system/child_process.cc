// clone3 into a cgroup, and waiting for the child.
#include "intercept/system/child_process.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>

#include "base/text.h"

namespace kveil::intercept {

absl::StatusOr<ChildProcess> ChildProcess::Start(int cgroupFd, absl::FunctionRef<int()> body, Descriptors descriptors) {
  const pid_t parent = ::getpid();
  int pidFd = -1;
  clone_args arguments = {};
  // exit_signal stays 0: the program around us gets no SIGCHLD, and its wait() calls do not see the child.
  arguments.flags = CLONE_INTO_CGROUP | CLONE_FILES | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidFd);
  arguments.cgroup = static_cast<uint64_t>(cgroupFd);
  const long pid = ::syscall(SYS_clone3, &arguments, sizeof(arguments));
  if (pid < 0) {
    return absl::FailedPreconditionError(
        StrCat("cannot start a process in the agent's cgroup: ", std::strerror(errno)));
  }
  if (pid == 0) {
    // It shares our descriptors: were it to outlive us, our listeners and locks would, too.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Not by leaving out CLONE_FILES: that would copy a table with all connections.
    if (descriptors == Descriptors::kOwn) ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_UNSHARE);
    ::_exit(::getppid() == parent ? body() : 0);
  }
  return ChildProcess(static_cast<pid_t>(pid), UniqueFd(pidFd));
}

absl::StatusOr<int> ChildProcess::Wait() {
  int status = 0;
  pid_t reaped;
  do {
    reaped = ::waitpid(pid_, &status, __WALL);
  } while (reaped < 0 && errno == EINTR);
  if (reaped < 0) return absl::InternalError(StrCat("waiting for a child process: ", std::strerror(errno)));
  pid_ = -1;
  if (WIFSIGNALED(status)) {
    return absl::InternalError(StrCat("a child process was ended by signal ", WTERMSIG(status)));
  }
  return WEXITSTATUS(status);
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);  // not reaped yet, so the number is still the child's
  (void)Wait();
}

}  // namespace kveil::intercept
