// Loading, attaching, pinning, and what the application sees of a redirected connection.
#include "intercept/redirect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "support/node.h"
#include "support/test_agent.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;

class RedirectTest : public testing::Test {
 protected:
  RedirectTest() { Connect(brokerNode, podNode); }

  std::string Dial(const SocketAddress& address, uint32_t uid = 0) {
    return RunWorkload(
        pod, &podNode,
        [&]() -> std::string {
          const UniqueFd fd(::socket(address.family(), SOCK_STREAM, 0));
          if (::connect(fd.get(), address.get(), address.size()) < 0) return ErrnoName(errno);
          return Exchange(fd.get()) + " by " + PeerName(fd.get()) + " as " + SocketName(fd.get());
        },
        uid);
  }

  Cgroup node;
  Cgroup pod{node, "pod"};
  Netns brokerNode, podNode;
  policy::InterceptConfig config = MakeConfig(node);
  DetachAtEnd detach{config};
};

TEST_F(RedirectTest, ApplicationSeesTheBrokerAndBrokerSeesTheApplication) {
  std::vector<UniqueFd> listeners;
  listeners.push_back(ListenIn(brokerNode, Address("192.0.2.1", 9092)));
  EchoBroker broker(std::move(listeners));
  TestAgent agent(config);
  std::string outcome;
  // The first connect may find the namespace not served yet; every client tries again.
  ASSERT_TRUE(Eventually([&] { return (outcome = Dial(Address("192.0.2.1", 9092), 1234)) != "ECONNREFUSED"; }));
  EXPECT_EQ(outcome, "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(broker.Clients(), testing::ElementsAre("192.0.2.2"));
  const intercept::Origin origin = agent.LastOrigin();
  EXPECT_EQ(origin.destination.Text(), "192.0.2.1:9092");
  EXPECT_EQ(origin.source.AddressText(), "127.0.0.1");
  EXPECT_EQ(origin.cgroupId, pod.id());
  EXPECT_EQ(origin.netnsCookie, podNode.cookie());
  EXPECT_EQ(origin.uid, 1234u);
  EXPECT_EQ(origin.targetIndex, 0);
}

TEST_F(RedirectTest, ProbeArrivesOnceTheNodeIsServed) {
  TestAgent agent(config);
  const absl::Status probed = agent.redirect().Probe(std::chrono::seconds(5));
  EXPECT_TRUE(probed.ok()) << probed;
}

}  // namespace
}  // namespace kveil::nettest
