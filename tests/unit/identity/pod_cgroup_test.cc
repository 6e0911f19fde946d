#include "identity/pod_cgroup.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace kveil::identity {
namespace {

constexpr char kUid[] = "5f0c3a2e-7b1d-4c61-9a55-0d7f8f5f1a10";

TEST(PodUidOfTest, ReadsThePathsOfTheKubeletsDrivers) {
  const std::string uid = "5f0c3a2e_7b1d_4c61_9a55_0d7f8f5f1a10";
  const std::string paths[] = {
      StrCat("/kubepods/burstable/pod", kUid, "/0123abcd"),
      StrCat("/kubepods/besteffort/pod", kUid, "/0123abcd/init.scope"),
      StrCat("/kubepods/pod", kUid, "/0123abcd"),
      StrCat("/kubepods/pod", kUid),
      StrCat("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod", uid, ".slice/cri-containerd-01.scope"),
      StrCat("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod", uid,
             ".slice/crio-01.scope/container"),
      StrCat("/kubepods.slice/kubepods-pod", uid, ".slice/cri-containerd-01.scope"),
      StrCat("/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod",
             uid, ".slice/cri-containerd-01.scope"),
  };
  for (const std::string& path : paths) EXPECT_EQ(PodUidOf(path), kUid) << path;
}

TEST(PodUidOfTest, AStaticPodsUidIsAHash) {
  EXPECT_EQ(PodUidOf("/kubepods/burstable/pod0a1b2c3d4e5f60718293a4b5c6d7e8f9/x"), "0a1b2c3d4e5f60718293a4b5c6d7e8f9");
}

// Whoever owns a cgroup chooses the names below it: none of these may pass for a pod.
TEST(PodUidOfTest, NamesThatAWorkloadChoseProveNothing) {
  const char* const paths[] = {
      "/user.slice/user-1000.slice/user@1000.service/kubepods/pod5f0c3a2e-7b1d-4c61-9a55-0d7f8f5f1a10",
      "/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod5f0c3a2e_7b1d.slice",
      "/system.slice/x.service/kubepods/burstable/pod5f0c3a2e-7b1d-4c61-9a55-0d7f8f5f1a10",
      "/docker/0123abcd/kubepods/pod5f0c3a2e-7b1d-4c61-9a55-0d7f8f5f1a10",
      "/machine.slice/libpod-0123.scope/kubepods.slice/kubepods-pod5f0c3a2e_7b1d_4c61_9a55_0d7f8f5f1a10.slice",
  };
  for (const char* const path : paths) EXPECT_EQ(PodUidOf(path), "") << path;
  EXPECT_EQ(PodUidOf("/kubepods/pod11111111-0000-4000-8000-000000000000/0123abcd/kubepods/pod" + std::string(kUid)),
            "11111111-0000-4000-8000-000000000000")
      << "the outermost pod counts";
}

TEST(PodUidOfTest, OtherPathsAreOfNoPod) {
  const char* const paths[] = {"",
                               "/",
                               "/kubepods",
                               "/kubepods/burstable",
                               "/kubepods/burstable/x",
                               "/kubepods/pod",
                               "/kubepods/podxyz",
                               "/kubepods/burstable/besteffort/pod5f0c3a2e-7b1d-4c61-9a55-0d7f8f5f1a10",
                               "/kubepods/pod../x",
                               "/kubepods.slice",
                               "/kubepods.slice/kubepods-burstable.slice",
                               "/kubepods.slice/kubepods-burstable.slice/kubepods-besteffort-pod5f0c3a2e_7b1d.slice",
                               "/kubepods.slice/pod5f0c3a2e-7b1d-4c61-9a55-0d7f8f5f1a10",
                               "/kubepods/kubepods-pod5f0c3a2e_7b1d_4c61_9a55_0d7f8f5f1a10.slice",
                               "/system.slice/a.service",
                               "/kubepods.slice/kubepods-pod.slice/x"};
  for (const char* const path : paths) EXPECT_EQ(PodUidOf(path), "") << path;
}

}  // namespace
}  // namespace kveil::identity
