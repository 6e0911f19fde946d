// What an agent without root's powers says of itself.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <functional>
#include <thread>

#include "base/text.h"
#include "intercept/kernel/access_check.h"
#include "intercept/workloads/workload_scan.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::AccessCheck;
using intercept::AgentCgroup;
using testing::HasSubstr;

// Runs `work` on a thread without one capability. Threads that it starts have none of it either.
void Without(int capability, const std::function<void()>& work) {
  std::thread([&] {
    __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    Require(::syscall(SYS_capget, &header, data) == 0, "capget");
    data[CAP_TO_INDEX(capability)].effective &= ~CAP_TO_MASK(capability);
    Require(::syscall(SYS_capset, &header, data) == 0, "capset");
    work();
  }).join();
}

class AccessCheckTest : public testing::Test {
 protected:
  std::unique_ptr<AccessCheck> Start() {
    auto access = AccessCheck::Start(agentCgroup.fd(), node.path());
    Require(access.ok(), std::string(access.status().message()));
    return *std::move(access);
  }

  Cgroup node;
  AgentCgroup agentCgroup = *AgentCgroup::Make(node.path());
};

TEST_F(AccessCheckTest, IsWellForRoot) {
  const std::unique_ptr<AccessCheck> access = Start();
  EXPECT_TRUE(access->EnterNamespace().ok()) << access->EnterNamespace();
  EXPECT_TRUE(access->NameCgroup().ok()) << access->NameCgroup();
  EXPECT_TRUE(intercept::CheckCapabilities("this", intercept::kAgentCapabilities).ok());
}

TEST_F(AccessCheckTest, SeesThatOthersNamespacesAreNotFound) {
  const std::unique_ptr<AccessCheck> access = Start();
  Without(CAP_SYS_PTRACE, [&] {
    EXPECT_THAT(std::string(access->EnterNamespace().message()), HasSubstr("CAP_SYS_PTRACE"));
    EXPECT_EQ(intercept::CheckCapabilities("this", intercept::kAgentCapabilities).message(),
              "this needs CAP_SYS_PTRACE, which this process does not have");
  });
}

TEST_F(AccessCheckTest, SeesThatNamespacesCannotBeEntered) {
  Without(CAP_SYS_ADMIN,
          [&] { EXPECT_THAT(std::string(Start()->EnterNamespace().message()), HasSubstr("CAP_SYS_ADMIN")); });
}

TEST_F(AccessCheckTest, SeesThatWorkloadsHaveNoName) {
  const std::unique_ptr<AccessCheck> access = Start();
  Without(CAP_DAC_READ_SEARCH,
          [&] { EXPECT_THAT(std::string(access->NameCgroup().message()), HasSubstr("CAP_DAC_READ_SEARCH")); });
}

// Runs `body` as the first process of a pid namespace of its own, which sees no process that was there before.
int InNewPidNamespace(const std::function<int()>& body) {
  const pid_t outer = ::fork();
  if (outer == 0) {
    if (::unshare(CLONE_NEWPID) != 0) ::_exit(100);
    const pid_t inner = ::fork();
    if (inner == 0) ::_exit(body());
    int status = 0;
    ::waitpid(inner, &status, 0);
    ::_exit(WEXITSTATUS(status));
  }
  int status = 0;
  ::waitpid(outer, &status, 0);
  return WEXITSTATUS(status);
}

TEST_F(AccessCheckTest, SeesThatProcessesAreHiddenFromIt) {
  const Workload workload(node, nullptr, PauseForEver);
  const absl::StatusOr<intercept::CgroupTree> tree = intercept::CgroupTree::Open(node.path());
  ASSERT_TRUE(tree.ok());
  const auto hidden = [&] {
    intercept::WorkloadScan scan(*tree);
    while (!scan.GoOn(intercept::WorkloadScan::Clock::time_point::max())) continue;
    return static_cast<int>(scan.hidden());
  };
  EXPECT_EQ(hidden(), 0);
  EXPECT_EQ(InNewPidNamespace(hidden), 1);
}

TEST_F(AccessCheckTest, RepairsTheAgentsCgroup) {
  const std::string path = StrCat(node.path(), "/", AgentCgroup::kName);
  const int fd = agentCgroup.fd();
  ASSERT_EQ(::rmdir(path.c_str()), 0);
  EXPECT_TRUE(agentCgroup.Repair().ok()) << agentCgroup.Repair();
  EXPECT_EQ(agentCgroup.fd(), fd);
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
  EXPECT_TRUE(Start()->EnterNamespace().ok()) << "processes can be started in it again";
}

// Makes system calls fail for this thread and the processes that it starts.
void Forbid(const std::vector<uint32_t>& calls) {
  std::vector<sock_filter> filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const uint32_t call : calls) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program = {static_cast<uint16_t>(filter.size()), filter.data()};
  Require(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
  Require(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0, "seccomp");
}

// The process that it starts shares the agent's descriptors until it has a table of its own.
TEST_F(AccessCheckTest, ClosesNoneOfTheAgentsDescriptorsWhereThatTableCannotBeHad) {
  for (const uint32_t call : {SYS_unshare, SYS_close_range}) {
    std::thread([&] {
      const UniqueFd mine(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      Forbid({call});
      const std::unique_ptr<AccessCheck> access = Start();
      EXPECT_TRUE(access->EnterNamespace().ok()) << access->EnterNamespace();
      const auto isClosed = [&] { return ::fcntl(mine.get(), F_GETFD) < 0; };
      EXPECT_FALSE(Eventually(isClosed, std::chrono::milliseconds(100))) << call;
    }).join();
  }
}

TEST_F(AccessCheckTest, HoldsTheAgentsCgroup) {
  const std::unique_ptr<AccessCheck> access = Start();
  EXPECT_NE(::rmdir(StrCat(node.path(), "/", AgentCgroup::kName).c_str()), 0);
}

}  // namespace
}  // namespace kveil::nettest
