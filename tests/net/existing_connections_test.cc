// Connections that workloads had before the agent came.
#include "intercept/namespaces/existing_connections.h"

#include <cstdlib>

#include "support/stage.h"

namespace kveil::nettest {
namespace {

// Connects, says so by a connection at the broker, and then waits for its end: "closed" or the error.
std::string HoldConnection(const SocketAddress& address) {
  const UniqueFd fd(::socket(address.family(), SOCK_STREAM, 0));
  if (::connect(fd.get(), address.get(), address.size()) != 0) return "connect: " + ErrnoName(errno);
  if (const std::string exchanged = Exchange(fd.get()); exchanged != "echoed") return exchanged;
  char byte;
  const ssize_t size = ::recv(fd.get(), &byte, 1, 0);
  return size == 0 ? "closed" : ErrnoName(errno);
}

// Without CONFIG_INET_DIAG_DESTROY nothing can reset another program's connection.
bool KernelCanReset() {
  // Debian's kernels have no /proc/config.gz.
  return std::system(
             "{ zcat /proc/config.gz 2>&- || cat /boot/config-$(uname -r); } | "
             "grep -q '^CONFIG_INET_DIAG_DESTROY=y'") == 0;
}

class ExistingConnectionsTest : public Stage {
 protected:
  ExistingConnectionsTest() { StartBroker({broker4, broker6, Address("192.0.2.1", 9999)}); }
  intercept::Namespaces::NamespaceStatus StatusOfPod() const {
    for (const auto& status : agent->namespaces().Status()) {
      if (status.netnsCookie == pod.netns.cookie()) return status;
    }
    return {};
  }
};

TEST_F(ExistingConnectionsTest, AreLeftAloneByDefault) {
  Workload client(pod.cgroup, &pod.netns, [this] { return HoldConnection(broker4); });
  ASSERT_TRUE(Eventually([&] { return broker->open() == 1; }));
  StartAgent();
  EXPECT_EQ(StatusOfPod().resetConnections, 0u);
  EXPECT_EQ(broker->open(), 1u);
}

TEST_F(ExistingConnectionsTest, AreResetWhenConfiguredAndNoOthersAre) {
  const Cgroup elsewhere;
  Workload client4(pod.cgroup, &pod.netns, [this] { return HoldConnection(broker4); });
  Workload client6(pod.cgroup, &pod.netns, [this] { return HoldConnection(broker6); });
  Workload mapped(pod.cgroup, &pod.netns, [] { return HoldConnection(Address("::ffff:192.0.2.1", 9092)); });
  Workload notATarget(pod.cgroup, &pod.netns, [] { return HoldConnection(Address("192.0.2.1", 9999)); });
  Workload outside(elsewhere, &pod.netns, [this] { return HoldConnection(broker4); });
  ASSERT_TRUE(Eventually([&] { return broker->open() == 5; }));
  config.existing = config::Existing::kReset;
  StartAgent();
  if (!KernelCanReset()) {
    EXPECT_TRUE(absl::IsUnimplemented(StatusOfPod().problem)) << StatusOfPod().problem;
    EXPECT_EQ(broker->open(), 5u);
    return;
  }
  EXPECT_EQ(client4.Join(), "ECONNABORTED");
  EXPECT_EQ(client6.Join(), "ECONNABORTED");
  EXPECT_EQ(mapped.Join(), "ECONNABORTED");
  EXPECT_EQ(StatusOfPod().resetConnections, 3u);
  EXPECT_TRUE(StatusOfPod().problem.ok()) << StatusOfPod().problem;
  EXPECT_TRUE(Eventually([&] { return broker->open() == 2; }));
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2") << "the next connect goes through the agent";
  EXPECT_EQ(agent->Origins().size(), 1u);
}

}  // namespace
}  // namespace kveil::nettest
