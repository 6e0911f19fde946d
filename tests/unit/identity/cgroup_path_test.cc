// Which systemd unit a cgroup path belongs to, and whose share it counts towards. Rules say who may read by the unit,
// so a name that a workload can give itself must not count; nor must the cgroups that it can make.
#include <gtest/gtest.h>

#include "identity/cgroup_path.h"

namespace kveil::identity {
namespace {

TEST(UnitOfTest, ServiceInItsSlice) {
  EXPECT_EQ(UnitOf("/system.slice/app.service"), "app.service");
  EXPECT_EQ(UnitOf("/system.slice/system-app.slice/app@1.service"), "app@1.service");
}

TEST(UnitOfTest, ScopesAndSocketsAreUnits) {
  EXPECT_EQ(UnitOf("/machine.slice/machine-x.scope"), "machine-x.scope");
  EXPECT_EQ(UnitOf("/system.slice/app.socket"), "app.socket");
}

TEST(UnitOfTest, SliceAloneIsNone) {
  EXPECT_EQ(UnitOf("/"), "");
  EXPECT_EQ(UnitOf(""), "");
  EXPECT_EQ(UnitOf("/system.slice"), "");
  EXPECT_EQ(UnitOf("/system.slice/plain-directory"), "");
}

TEST(UnitOfTest, WhatAUnitMakesBelowItselfDoesNotCount) {
  EXPECT_EQ(UnitOf("/system.slice/mine.service/trusted.service"), "mine.service");
  EXPECT_EQ(UnitOf("/system.slice/mine.service/system.slice/trusted.service"), "mine.service");
  EXPECT_EQ(UnitOf("/system.slice/containerd.service/anything/trusted.scope"), "containerd.service");
}

TEST(UnitOfTest, WhatAContainerCallsItsOwnUnitsDoesNotCount) {
  EXPECT_EQ(UnitOf("/lxc.payload.c1/system.slice/trusted.service"), "");
  EXPECT_EQ(UnitOf("/lxc/100/ns/system.slice/trusted.service"), "");
  EXPECT_EQ(UnitOf("/docker/0123abcd/trusted.service"), "");
  EXPECT_EQ(UnitOf("/system.slice/plain/trusted.service"), "");
}

TEST(UnitOfTest, UsersUnitIsNamedWithItsManager) {
  EXPECT_EQ(UnitOf("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service"),
            "user@1000.service/foo.service");
  EXPECT_EQ(UnitOf("/user.slice/user-1000.slice/user@1000.service/init.scope"), "user@1000.service/init.scope");
  EXPECT_EQ(UnitOf("/user.slice/user-1000.slice/user@1000.service"), "user@1000.service");
  EXPECT_EQ(UnitOf("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service/bar.service"),
            "user@1000.service/foo.service");
}

TEST(UnitOfTest, SessionIsAUnitOfItsOwn) {
  EXPECT_EQ(UnitOf("/user.slice/user-1000.slice/session-3.scope"), "session-3.scope");
}

TEST(UnitOfTest, BelowAPodThereIsNone) {
  EXPECT_EQ(UnitOf("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-2.scope"),
            "");
  EXPECT_EQ(UnitOf("/kubepods/besteffort/pod1/trusted.service"), "");
  EXPECT_EQ(UnitOf("/kubepods-besteffort.slice/trusted.service"), "");
}

TEST(UnitOfTest, NameThatOnlyBeginsLikeAPodsIsAUnit) {
  EXPECT_EQ(UnitOf("/system.slice/kubepodsweeper.service"), "kubepodsweeper.service");
}

TEST(UnitOfTest, EscapedNameIsReadAsSystemdWroteIt) {
  EXPECT_EQ(UnitOf("/system.slice/_cgroup.app.service"), "cgroup.app.service");
}

TEST(UnitOfTest, PodsBelowARootOfTheKubeletsOwnHaveNoUnit) {
  EXPECT_EQ(UnitOf("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-containerd-01.scope"), "");
}

TEST(UnitOfTest, SuffixAloneIsNoName) { EXPECT_EQ(UnitOf("/system.slice/.service"), ""); }

bool IsNotDelegated(const std::string& /*path*/) { return false; }

TEST(ShareOfTest, IsTheCgroupThatNobodyLeavesWithoutARight) {
  const auto share = [](std::string_view path) { return ShareOf(path, "/", 3, IsNotDelegated); };
  EXPECT_EQ(share("/system.slice/a.service"), "/system.slice/a.service");
  EXPECT_EQ(share("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service"),
            "/user.slice/user-1000.slice/user@1000.service");
  EXPECT_EQ(share("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-2.scope"),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice");
  EXPECT_EQ(share("/a/b/c"), "/a/b/c");
  EXPECT_EQ(share("/a/b/c/"), "/a/b/c");
  EXPECT_EQ(share("/"), "/");
  EXPECT_EQ(share(""), "");
}

TEST(ShareOfTest, CountsLevelsFromTheInterceptedCgroup) {
  const auto share = [](std::string_view path) { return ShareOf(path, "/docker/node/kubelet", 3, IsNotDelegated); };
  EXPECT_EQ(share("/docker/node/kubelet/pods/burstable/pod1/container"), "/docker/node/kubelet/pods/burstable/pod1");
  EXPECT_EQ(share("/docker/node/kubelet/pods/burstable/pod2"), "/docker/node/kubelet/pods/burstable/pod2");
  EXPECT_EQ(share("/docker/node/kubelet/a"), "/docker/node/kubelet/a");
  EXPECT_EQ(share("/docker/node/kubelet"), "/docker/node/kubelet");
}

TEST(ShareOfTest, EndsAtTheLevelThatIsAskedFor) {
  const auto share = [](std::string_view path) { return ShareOf(path, "/user.slice", 2, IsNotDelegated); };
  EXPECT_EQ(share("/user.slice/user-1000.slice/user@1000.service/app.slice"),
            "/user.slice/user-1000.slice/user@1000.service");
  EXPECT_EQ(share("/user.slice/user-1000.slice"), "/user.slice/user-1000.slice");
  EXPECT_EQ(share("/system.slice/a.service/made"), "/system.slice/a.service");
}

TEST(ShareOfTest, EndsAtTheFirstCgroupThatIsDelegated) {
  const auto share = [](std::string_view path, std::string_view intercepted) {
    return ShareOf(path, intercepted, 3, [](const std::string& one) {
      return one == "/system.slice/a.service" || one == "/user.slice/user-1000.slice/user@1000.service";
    });
  };
  EXPECT_EQ(share("/system.slice/a.service/made/up", "/"), "/system.slice/a.service");
  EXPECT_EQ(share("/system.slice/b.service/part", "/"), "/system.slice/b.service/part");
  const std::string manager = "/user.slice/user-1000.slice/user@1000.service";
  EXPECT_EQ(share(manager + "/made/up", "/user.slice"), manager);
  EXPECT_EQ(share(manager + "/made/up", manager), manager) << "all below it is its owner's";
}

TEST(ShareOfTest, CountsLevelsOfWhoIsOutsideFromTheRoot) {
  const auto share = [](std::string_view path) { return ShareOf(path, "/docker/node/kubelet", 3, IsNotDelegated); };
  EXPECT_EQ(share("/docker/node/kubelet2/a/b/c"), "/docker/node/kubelet2");
  EXPECT_EQ(share("/docker/other"), "/docker/other");
  EXPECT_EQ(share("/docker"), "/docker");
  EXPECT_EQ(share("/"), "/");
  EXPECT_EQ(share(""), "") << "unknown";
}

}  // namespace
}  // namespace kveil::identity
