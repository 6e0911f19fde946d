// Shares where the intercepted cgroup is itself far down in the hierarchy, as that of a node in a container is: what is
// one workload depends on what is below it.
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "intercept/workloads/workloads.h"
#include "support/half_open.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

// A file by which a process of a test says that it is ready, and a directory.
class Sign {
 public:
  Sign() { Require(::mkdtemp(directory_.data()) != nullptr && ::chmod(directory_.c_str(), 0777) == 0, "a directory"); }
  ~Sign() {
    ::unlink(file().c_str());
    ::rmdir(directory_.c_str());
  }
  Sign(const Sign&) = delete;
  Sign& operator=(const Sign&) = delete;
  const std::string& directory() const { return directory_; }
  void Give() const { UniqueFd(::open(file().c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644)); }
  bool IsGiven() const { return ::access(file().c_str(), F_OK) == 0; }

 private:
  std::string file() const { return directory_ + "_given"; }
  std::string directory_ = "/tmp/kveil-net-test-XXXXXX";
};

void Enter(const Cgroup& cgroup) {
  const UniqueFd procs(::open((cgroup.path() + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  Require(::write(procs.get(), "0", 1) == 1, "moving into " + cgroup.path());
}

class NestedSharesTest : public Stage {
 protected:
  NestedSharesTest() {
    StartBroker({broker4});
    config.cgroup = intercepted.path();
  }

  // A workload whose half-open connects are refused from now on.
  std::unique_ptr<Workload> Exhaust(const Cgroup& cgroup, const Cgroup* movedTo = nullptr) const {
    const Sign refused;
    const auto body = [&] {
      AllowManyDescriptors();
      std::vector<UniqueFd> held;
      // A socket is intercepted where it was made, and counts for where its maker is when he connects.
      while (movedTo != nullptr && held.size() < 10000) {
        held.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      }
      if (movedTo != nullptr) Enter(*movedTo);
      size_t count = 0;
      for (errno = 0; errno != ECONNREFUSED && count < 10000; ++count) {
        if (movedTo == nullptr) {
          held.push_back(BeginHalfOpen(broker4));
        } else {
          BeginHalfOpen(held[count].get(), broker4);
        }
      }
      refused.Give();
      return PauseForEver();
    };
    auto workload = std::make_unique<Workload>(cgroup, &pod.netns, body, movedTo == nullptr ? kNobody : 0);
    EXPECT_TRUE(Eventually([&] { return refused.IsGiven(); }));
    return workload;
  }
  identity::Workload Find(const identity::Origin& origin) const {
    const auto workloads = intercept::Workloads::Open(config.cgroup);
    Require(workloads.ok(), std::string(workloads.status().message()));
    return (*workloads)->Find(origin);
  }
  std::string ShareOf(const Cgroup& cgroup) const {
    identity::Origin origin;
    origin.cgroupId = cgroup.id();
    return Find(origin).share;
  }
  static void Delegate(const Cgroup& cgroup) {
    Require(::chown(cgroup.path().c_str(), kNobody, kNobody) == 0, "another owner");
  }
  std::string DialFrom(const Cgroup& cgroup) const {
    return RunWorkload(cgroup, &pod.netns, [this] { return Dial(broker4); });
  }

  const Cgroup second{node, "container"}, intercepted{second, "node"};
  const Cgroup one{intercepted, "one"}, two{intercepted, "two"};
  const Cgroup deep2{one, "b"}, deep3{deep2, "c"}, other3{deep2, "d"}, part1{deep3, "1"}, part2{deep3, "2"};
  const Workload resident{two, &pod.netns, PauseForEver};
};

TEST_F(NestedSharesTest, ChildrenOfTheInterceptedCgroupHaveSharesOfTheirOwn) {
  StartAgent();
  const auto flood = Exhaust(one);
  EXPECT_EQ(DialFrom(one), "ECONNREFUSED");
  EXPECT_EQ(DialFrom(two), kEchoed);
}

TEST_F(NestedSharesTest, WhatIsBelowTheThirdLevelHasOneShareTogether) {
  StartAgent();
  const auto flood = Exhaust(part1);
  EXPECT_EQ(DialFrom(part2), "ECONNREFUSED");
  EXPECT_EQ(DialFrom(other3), kEchoed);
  EXPECT_THAT(ShareOf(part1), testing::EndsWith("/container/node/one/b/c"));
  EXPECT_EQ(ShareOf(part2), ShareOf(part1));
  EXPECT_THAT(ShareOf(other3), testing::EndsWith("/container/node/one/b/d"));
}

TEST_F(NestedSharesTest, WhatIsBelowADelegatedCgroupHasOneShareTogether) {
  Delegate(deep2);
  EXPECT_THAT(ShareOf(part1), testing::EndsWith("/container/node/one/b"));
  EXPECT_EQ(ShareOf(other3), ShareOf(part1));
}

// As with intercept.cgroup /sys/fs/cgroup/user.slice.
TEST_F(NestedSharesTest, UserHasOneShareWhereTheInterceptedCgroupIsJustBelowTheHostsRoot) {
  config.cgroup = node.path();
  const Cgroup user(node, "user-1000.slice"), manager(user, "user@1000.service");
  const Cgroup made1(manager, "1"), made2(manager, "2"), otherManager(user, "user@1001.service");
  Delegate(manager);
  StartAgent();
  const auto flood = Exhaust(made1);
  EXPECT_EQ(DialFrom(made2), "ECONNREFUSED");
  EXPECT_EQ(DialFrom(otherManager), kEchoed);
  EXPECT_THAT(ShareOf(made1), testing::EndsWith("/user-1000.slice/user@1000.service"));
}

TEST_F(NestedSharesTest, ConnectionWhoseCgroupIsGoneCountsForTheOneAbove) {
  StartAgent();
  const std::string gone = deep3.path() + "/gone";
  const std::string outcome = RunWorkload(deep3, &pod.netns, [&]() -> std::string {
    const Cgroup child(deep3, "gone");
    Enter(child);
    const std::string dialled = Dial(broker4);
    Enter(deep3);
    return dialled;
  });
  ASSERT_EQ(outcome, kEchoed);
  ASSERT_NE(::access(gone.c_str(), F_OK), 0);
  const identity::Workload workload = Find(agent->LastOrigin());
  EXPECT_EQ(workload.cgroupPath, "");
  EXPECT_EQ(workload.share, ShareOf(part1));
}

TEST_F(NestedSharesTest, WhoHasLeftTheInterceptedCgroupTakesNothingFromThoseInIt) {
  StartAgent();
  const Cgroup outside(node, "outside");
  const auto flood = Exhaust(one, &outside);
  EXPECT_EQ(DialFrom(one), kEchoed);
  EXPECT_EQ(DialFrom(two), kEchoed);
}

// The agent sees the intercepted cgroup as the root of all, as in a container.
TEST_F(NestedSharesTest, LevelsAreTheSameForAnAgentInACgroupNamespace) {
  const Sign ready;
  const Workload agentInside(intercepted, nullptr, [&] {
    Require(::unshare(CLONE_NEWCGROUP | CLONE_NEWNS) == 0, "unshare");
    Require(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "a private mount namespace");
    Require(::mount("cgroup2", ready.directory().c_str(), "cgroup2", 0, nullptr) == 0, "a mount of the cgroups");
    config.cgroup = ready.directory();
    StartAgent();
    Require(ShareOf(part1) == "/one/b/c", "a share by its path");
    ready.Give();
    return PauseForEver();
  });
  ASSERT_TRUE(Eventually([&] { return ready.IsGiven(); }));
  const auto flood = Exhaust(part1);
  EXPECT_EQ(DialFrom(part2), "ECONNREFUSED");
  EXPECT_EQ(DialFrom(other3), kEchoed);
  EXPECT_EQ(DialFrom(two), kEchoed);
}

// Users without any right.
TEST_F(NestedSharesTest, NamespacesOfOneWorkloadLeaveThoseOfAnotherToBeServed) {
  constexpr size_t kServed = 64;
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{}, kCompareOften);
  const auto count = [&] { return agent->namespaces().Status().size(); };
  const size_t before = count();
  const Workload many(
      one, nullptr, [] { return MakeNamespaces(kServed + 2); }, kNobody);
  ASSERT_TRUE(Eventually([&] { return !agent->namespaces().SharesHealth().ok() && count() == before + kServed; }));
  const Workload few(
      two, nullptr, [] { return MakeNamespaces(1); }, kNobody - 1);
  EXPECT_TRUE(Eventually([&] { return count() == before + kServed + 1; }));
}

}  // namespace
}  // namespace kveil::nettest
