// Where io_uring is forbidden, the error says by what and what to change.
#include "io/ring_refusal.h"

#include <gmock/gmock.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>

#include "harness.h"

namespace kveil::io {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string TextOf(const RingRefusal& refusal) { return std::string(Explain(refusal).message()); }

RingRefusal Forbidden() {
  RingRefusal refusal;
  refusal.error = EPERM;
  return refusal;
}

TEST(RingRefusalTest, NamesTheSysctlWhenItForbidsEverybody) {
  RingRefusal refusal = Forbidden();
  refusal.ioUringDisabled = 2;
  refusal.systemAdministrator = true;
  refusal.seccompFilter = true;
  EXPECT_THAT(TextOf(refusal), AllOf(HasSubstr("kernel.io_uring_disabled is 2"), Not(HasSubstr("seccomp"))));
}

TEST(RingRefusalTest, NamesTheSysctlAndTheCapabilityWhenOnlyTheUnprivilegedAreForbidden) {
  RingRefusal refusal = Forbidden();
  refusal.ioUringDisabled = 1;
  EXPECT_THAT(TextOf(refusal), AllOf(HasSubstr("kernel.io_uring_disabled is 1"), HasSubstr("CAP_SYS_ADMIN")));
}

TEST(RingRefusalTest, NamesSeccompWhenTheSysctlAllowsIt) {
  RingRefusal refusal = Forbidden();
  refusal.seccompFilter = true;
  EXPECT_THAT(TextOf(refusal), AllOf(HasSubstr("seccomp"), Not(HasSubstr("io_uring_disabled is"))));
  refusal.ioUringDisabled = 1;
  refusal.systemAdministrator = true;
  EXPECT_THAT(TextOf(refusal), AllOf(HasSubstr("seccomp"), Not(HasSubstr("io_uring_disabled is"))));
}

TEST(RingRefusalTest, NamesASecurityModuleWhenNothingElseForbidsIt) {
  EXPECT_THAT(TextOf(Forbidden()), HasSubstr("security module"));
}

TEST(RingRefusalTest, TellsAHiddenIoUringFromAnAbsentOne) {
  RingRefusal refusal;
  refusal.error = ENOSYS;
  EXPECT_THAT(TextOf(refusal), AllOf(HasSubstr("CONFIG_IO_URING"), Not(HasSubstr("seccomp"))));
  refusal.seccompFilter = true;
  EXPECT_THAT(TextOf(refusal), AllOf(HasSubstr("seccomp"), Not(HasSubstr("CONFIG_IO_URING"))));
}

TEST(RingRefusalTest, NamesTheLimitOfLockedMemory) {
  RingRefusal refusal;
  refusal.error = ENOMEM;
  refusal.lockedMemoryLimit = 65536;
  EXPECT_THAT(TextOf(refusal), AllOf(HasSubstr("RLIMIT_MEMLOCK is 65536 bytes"), HasSubstr("LimitMEMLOCK")));
}

TEST(RingRefusalTest, NamesTheKernelWhenItIsTooOld) {
  RingRefusal refusal;
  refusal.error = EINVAL;
  EXPECT_THAT(TextOf(refusal), HasSubstr("kernel 6.1 or newer"));
}

TEST(RingRefusalTest, NamesTheDescriptors) {
  RingRefusal refusal;
  refusal.error = EMFILE;
  EXPECT_THAT(TextOf(refusal), HasSubstr("RLIMIT_NOFILE"));
}

// From now on this process gets `error` for the system call.
bool Forbid(long systemCall, int error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(systemCall), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// What Loop::Create says in a child process where the system call is forbidden.
std::string MessageWhenForbidden(long systemCall, int error) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    std::string message = "no filter could be installed";
    if (Forbid(systemCall, error)) {
      const auto loop = Loop::Create(SmallOptions());
      message = loop.ok() ? "a loop was made" : std::string(loop.status().message());
    }
    ::_exit(::write(ends[1], message.data(), message.size()) == static_cast<ssize_t>(message.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string message(4096, '\0');
  message.resize(static_cast<size_t>(std::max<ssize_t>(0, ::read(ends[0], message.data(), message.size()))));
  ::close(ends[0]);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  return message;
}

TEST(LoopCreateTest, SaysThatSeccompForbidsTheRing) {
  const std::string message = MessageWhenForbidden(__NR_io_uring_setup, EPERM);
  EXPECT_THAT(message, AllOf(HasSubstr("forbidden by a seccomp filter"), HasSubstr("io_uring_setup"),
                             HasSubstr("Localhost"), HasSubstr("Operation not permitted")));
}

TEST(LoopCreateTest, SaysThatSeccompHidesTheRing) {
  EXPECT_THAT(MessageWhenForbidden(__NR_io_uring_setup, ENOSYS), HasSubstr("hidden by a seccomp filter"));
}

TEST(LoopCreateTest, SaysThatMemoryIsLacking) {
  EXPECT_THAT(MessageWhenForbidden(__NR_io_uring_setup, ENOMEM), HasSubstr("RLIMIT_MEMLOCK is "));
}

TEST(LoopCreateTest, FindsARingThatMayBeMadeButNotUsed) {
  EXPECT_THAT(MessageWhenForbidden(__NR_io_uring_enter, EPERM), HasSubstr("forbidden by a seccomp filter"));
  EXPECT_THAT(MessageWhenForbidden(__NR_io_uring_register, EPERM), HasSubstr("forbidden by a seccomp filter"));
}

}  // namespace
}  // namespace kveil::io
