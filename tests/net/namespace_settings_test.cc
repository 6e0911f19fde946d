// Settings of a namespace that its own processes can make, and that keep the agent from listening there: nobody else
// notices.
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstring>

#include "base/text.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kOptmem[] = "/proc/sys/net/core/optmem_max";

class NamespaceSettingsTest : public Stage {
 protected:
  std::string NotServed() const { return std::string(agent->namespaces().WorkloadsNotServed().message()); }
};

// Since Linux 6.8 the memory for what is attached to sockets has a limit of its own in each namespace. Before, there is
// no such file there.
std::string AllowNoSocketStorage() {
  Require(::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0, "unshare");
  const UniqueFd limit(::open(kOptmem, O_WRONLY | O_CLOEXEC));
  Require(!limit.valid() || ::write(limit.get(), "0", 1) == 1, "optmem_max");
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq lo = {};
  std::strcpy(lo.ifr_name, "lo");
  lo.ifr_flags = IFF_UP;
  Require(::ioctl(fd.get(), SIOCSIFFLAGS, &lo) == 0, "lo up");
  return PauseForEver();
}

TEST_F(NamespaceSettingsTest, UserWhoAllowsNoSocketStorageHarmsNobodyElse) {
  StartBroker({broker4});
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{}, kCompareOften);
  const bool hasLimit = pod.Run([] { return std::string(::access(kOptmem, F_OK) == 0 ? "yes" : "no"); }) == "yes";
  const Cgroup hostile(node, "hostile");
  const Workload workload(hostile, nullptr, AllowNoSocketStorage, kNobody);
  const std::string inside = StrCat("nsenter --net=/proc/", workload.pid(), "/ns/net ");
  const auto isTried = [&] {
    for (const auto& one : agent->namespaces().Status()) {
      if (one.process != static_cast<uint32_t>(workload.pid()) || one.problem.message().find("lo is") == 0) continue;
      return one.state == intercept::Namespaces::NamespaceStatus::State::kServed || !one.problem.ok();
    }
    return false;
  };
  ASSERT_TRUE(Eventually(isTried));
  EXPECT_TRUE(agent->namespaces().Health().ok()) << agent->namespaces().Health();
  EXPECT_THAT(DialInPod(broker4), StartsWith("echoed"));
  if (!hasLimit) return;
  EXPECT_THAT(NotServed(), HasSubstr("net.core.optmem_max"));
  Shell(inside + "sysctl -qw net.core.optmem_max=131072");
  EXPECT_TRUE(Eventually([&] { return NotServed().empty(); })) << NotServed();
}

// Neither where it was served before: nothing passes beside the agent.
TEST_F(NamespaceSettingsTest, WithoutSocketStorageConnectsAreRefused) {
  StartBroker({broker4});
  StartAgent();
  ASSERT_THAT(DialInPod(broker4), StartsWith("echoed"));
  const std::string inside = StrCat("nsenter --net=/proc/", pod.netns.holder(), "/ns/net ");
  Shell(inside + "sh -c '[ ! -e /proc/sys/net/core/optmem_max ] || sysctl -qw net.core.optmem_max=0'");
  const bool hasLimit = pod.Run([] { return std::string(::access(kOptmem, F_OK) == 0 ? "yes" : "no"); }) == "yes";
  EXPECT_THAT(DialInPod(broker4), StartsWith(hasLimit ? "ECONNREFUSED" : "echoed"));
  EXPECT_TRUE(agent->namespaces().Health().ok()) << agent->namespaces().Health();
}

}  // namespace
}  // namespace kveil::nettest
