// The pins while an agent runs: taken away, replaced, in a file system that is not the host's.
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/text.h"
#include "intercept/kernel/pins.h"
#include "support/bpf_objects.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::AllOf;
using testing::ElementsAreArray;
using testing::HasSubstr;

class PinsTest : public Stage {
 protected:
  PinsTest() {
    StartBroker({broker4});
    StartAgent({.heartbeatTimeout = std::chrono::milliseconds(250)});  // a look at the pins every 50 ms
    pins = NamesIn(config.pinDirectory);
  }
  std::string PathOf(const std::string& name) const { return StrCat(config.pinDirectory, "/", name); }
  // All pins are there, and they are those that hold what is attached.
  bool AreComplete() const { return NamesIn(config.pinDirectory) == pins; }
  void ExpectProtectedWithoutAgent() {
    agent.reset();
    EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
    EXPECT_EQ(CountAttached(node), kHooks.size());
    EXPECT_TRUE(broker->Clients().empty()) << "reached the broker past the agent";
  }

  std::vector<std::string> pins;
};

TEST_F(PinsTest, EveryPinThatIsUnlinkedComesBack) {
  for (const std::string& name : pins) ASSERT_EQ(::unlink(PathOf(name).c_str()), 0) << name;
  EXPECT_TRUE(Eventually([this] { return AreComplete(); }));
  EXPECT_TRUE(agent->redirect().Health().ok()) << agent->redirect().Health();
  ExpectProtectedWithoutAgent();
}

TEST_F(PinsTest, WholeDirectoryThatIsRemovedComesBackAndIsStillLocked) {
  std::filesystem::remove_all(config.pinDirectory);
  EXPECT_TRUE(Eventually([this] { return AreComplete(); }));
  EXPECT_THAT(std::string(Redirect::Start(config).status().message()), HasSubstr("another kveil agent is running"));
  ExpectProtectedWithoutAgent();
}

TEST_F(PinsTest, WhatStandsInAPinsPlaceIsReplaced) {
  const std::string path = PathOf("link_connect4");
  const UniqueFd foreign(::bpf_map_create(BPF_MAP_TYPE_ARRAY, "foreign", 4, 4, 1, nullptr));
  const UniqueFd link(::bpf_obj_get(path.c_str()));
  ASSERT_EQ(::unlink(path.c_str()), 0);
  // The agent may have been quicker.
  if (::bpf_obj_pin(foreign.get(), path.c_str()) < 0) {
    ASSERT_EQ(errno, EEXIST);
  }
  const auto linkId = [](int fd) {
    bpf_link_info info = {};
    uint32_t size = sizeof(info);
    return ::bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.id : 0;
  };
  EXPECT_TRUE(Eventually([&] {
    const UniqueFd found(::bpf_obj_get(path.c_str()));
    return found.valid() && linkId(found.get()) == linkId(link.get());
  }));
  ExpectProtectedWithoutAgent();
}

TEST_F(PinsTest, PinThatCannotBeMadeAgainIsAProblemUntilItCan) {
  const std::string path = PathOf("map_v2_learned");
  // A directory cannot be replaced by a pin. The agent may be quicker with the name: then once more.
  ASSERT_TRUE(Eventually([&] {
    ::unlink(path.c_str());
    return ::mkdir(path.c_str(), 0700) == 0;
  }));
  EXPECT_TRUE(Eventually([this] { return !agent->redirect().Health().ok(); }));
  EXPECT_THAT(std::string(agent->redirect().Health().message()),
              AllOf(HasSubstr("cannot pin"), HasSubstr("map_v2_learned")));
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2") << "the agent goes on";
  ASSERT_EQ(::rmdir(path.c_str()), 0);
  EXPECT_TRUE(Eventually([this] { return agent->redirect().Health().ok(); })) << agent->redirect().Health();
  EXPECT_THAT(NamesIn(config.pinDirectory), ElementsAreArray(pins));
}

// What an agent in a container finds that was not given the host's directory.
TEST(PinDirectoryTest, FileSystemOfThisMountNamespaceAloneIsRefused) {
  const Cgroup node;
  const std::string outcome = RunWorkload(node, nullptr, [] {
    Require(::unshare(CLONE_NEWNS) == 0, "a mount namespace");
    Require(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
    Require(::mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) == 0, "a BPF file system");
    return std::string(ToStd(intercept::PinDirectory::Lock("/sys/fs/bpf/kveil-net-test-private").status().ToString()));
  });
  EXPECT_THAT(outcome, AllOf(HasSubstr("FAILED_PRECONDITION"), HasSubstr("/sys/fs/bpf is not the host's"),
                             HasSubstr("mount -t bpf bpf /sys/fs/bpf")));
}

// One that takes the host's place while an agent runs.
TEST(PinDirectoryTest, FileSystemThatIsMountedLaterForThisMountNamespaceAloneIsRefused) {
  const Cgroup node;
  const std::string outcome = RunWorkload(node, nullptr, [] {
    Require(::unshare(CLONE_NEWNS) == 0, "a mount namespace");
    Require(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
    auto pins = intercept::PinDirectory::Lock("/sys/fs/bpf/kveil-net-test-later");
    Require(pins.ok() && pins->Restore().ok(), "the host's BPF file system");
    Require(::mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) == 0, "a BPF file system");
    std::string status(ToStd(pins->Restore().ToString()));
    Require(::umount("/sys/fs/bpf") == 0, "the host's again");
    return status;
  });
  EXPECT_THAT(outcome, AllOf(HasSubstr("FAILED_PRECONDITION"), HasSubstr("/sys/fs/bpf is not the host's")));
}

// An agent that mounts one itself takes it away again where the host would not have it.
TEST(PinDirectoryTest, FileSystemThatOnlyThisMountNamespaceWouldHaveIsNotMounted) {
  const Cgroup node;
  const std::string outcome = RunWorkload(node, nullptr, [] {
    Require(::unshare(CLONE_NEWNS) == 0, "a mount namespace");
    Require(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "private mounts");
    Require(::umount2("/sys/fs/bpf", MNT_DETACH) == 0, "no BPF file system");
    const std::string status(
        ToStd(intercept::PinDirectory::Lock("/sys/fs/bpf/kveil-net-test-private").status().ToString()));
    struct stat mounted, parent;
    Require(::stat("/sys/fs/bpf", &mounted) == 0 && ::stat("/sys/fs", &parent) == 0, "stat");
    return StrCat(mounted.st_dev == parent.st_dev ? "unmounted: " : "still mounted: ", status);
  });
  EXPECT_THAT(outcome, AllOf(HasSubstr("unmounted: FAILED_PRECONDITION"), HasSubstr("is not the host's")));
}

}  // namespace
}  // namespace kveil::nettest
