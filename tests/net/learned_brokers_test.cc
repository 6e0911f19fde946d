// Brokers that a response advertised outside the configured targets.
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;

class LearnedBrokersTest : public Stage {
 protected:
  LearnedBrokersTest() { StartBroker({advertised4, advertised6, Address("192.0.2.1", 9999)}); }
  bool IsDirect(const SocketAddress& address) const {
    const size_t before = agent->Origins().size();
    return DialInPod(address).find("echoed") == 0 && agent->Origins().size() == before;
  }
  size_t Learned() const { return agent->redirect().CountMapElements().learned; }

  const SocketAddress advertised4 = Address("192.0.2.1", 19092), advertised6 = Address("2001:db8:77::1", 19092);
};

TEST_F(LearnedBrokersTest, LearnedAddressIsRedirectedForItsTargetAndNothingElseIs) {
  StartAgent();
  Redirect& redirect = agent->redirect();
  EXPECT_TRUE(IsDirect(advertised4));
  EXPECT_FALSE(redirect.IsTarget(advertised4));
  ASSERT_TRUE(redirect.Learn(advertised4, 1, std::chrono::minutes(5)).ok());
  EXPECT_TRUE(redirect.IsTarget(advertised4));
  EXPECT_EQ(redirect.ConfiguredTarget(advertised4), std::nullopt);
  EXPECT_EQ(redirect.ConfiguredTarget(broker6), 1);
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  ASSERT_EQ(agent->Origins().size(), 1u);
  EXPECT_EQ(agent->LastOrigin().targetIndex, 1);
  EXPECT_TRUE(IsDirect(Address("192.0.2.1", 9999)));
  EXPECT_TRUE(IsDirect(advertised6));
}

TEST_F(LearnedBrokersTest, ApplicationSeesItsOwnAddressAlsoWhereTheTargetHasTheOtherFamily) {
  config.targets = {MakeTarget("198.51.100.0", 24, 9092, 9092), MakeTarget("2001:db8:78::", 64, 9092, 9092)};
  pod.netns.Ip("route add default via 192.0.2.1");
  pod.netns.Ip("-6 route add default via 2001:db8:77::1");
  StartAgent();
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 1, std::chrono::minutes(5)).ok());
  ASSERT_TRUE(agent->redirect().Learn(advertised6, 0, std::chrono::minutes(5)).ok());
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(DialInPod(advertised6), "echoed by [2001:db8:77::1]:19092 as 2001:db8:77::2");
}

TEST_F(LearnedBrokersTest, Ipv6AndMappedAddressesAreLearnedAsWhatTheyAre) {
  StartAgent();
  ASSERT_TRUE(agent->redirect().Learn(advertised6, 1, std::chrono::minutes(5)).ok());
  ASSERT_TRUE(agent->redirect().Learn(Address("::ffff:192.0.2.1", 19092), 0, std::chrono::minutes(5)).ok());
  EXPECT_EQ(DialInPod(advertised6), "echoed by [2001:db8:77::1]:19092 as 2001:db8:77::2");
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(agent->Origins().size(), 2u);
}

TEST_F(LearnedBrokersTest, LearnedBrokerIsRefusedWhileNoAgentRunsHoweverLongThatIs) {
  StartAgent({.heartbeatTimeout = std::chrono::hours(1)});  // no heartbeat clears it away
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(0)).ok());
  agent.reset();
  EXPECT_EQ(DialInPod(advertised4), "ECONNREFUSED");
  StartAgent({.heartbeatTimeout = std::chrono::milliseconds(500)});
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(agent->Origins().size(), 1u) << "the agent that came back has not dropped it";
}

TEST_F(LearnedBrokersTest, LifeTimeEndsAndTheEntryGoes) {
  StartAgent({.heartbeatTimeout = std::chrono::milliseconds(500)});  // expired entries go with a heartbeat
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(1)).ok());
  EXPECT_FALSE(IsDirect(advertised4));
  EXPECT_EQ(Learned(), 1u);
  EXPECT_TRUE(Eventually([&] { return IsDirect(advertised4); }));
  EXPECT_TRUE(Eventually([&] { return Learned() == 0; }));
}

TEST_F(LearnedBrokersTest, LearningAgainProlongsTheLifeTime) {
  StartAgent({.heartbeatTimeout = std::chrono::milliseconds(500)});
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(1)).ok());
  ASSERT_TRUE(agent->redirect().Learn(Address("192.0.2.1", 9999), 0, std::chrono::seconds(1)).ok());
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::minutes(5)).ok());
  EXPECT_TRUE(Eventually([&] { return Learned() == 1; })) << "the one that was not prolonged stays";
  EXPECT_FALSE(IsDirect(advertised4));
}

TEST_F(LearnedBrokersTest, RestartedAgentKeepsThemUnderTheIndexThatTheirClusterHasNow) {
  StartAgent();
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::minutes(5)).ok());  // of the cluster "main"
  ASSERT_TRUE(agent->redirect().Learn(advertised6, 1, std::chrono::minutes(5)).ok());  // of the cluster "six"
  agent.reset();
  config.targets = {MakeTarget("198.51.100.0", 24, 9092, 9092, "other"), MakeTarget("192.0.2.0", 24, 9092, 9092)};
  StartAgent();
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(agent->LastOrigin().targetIndex, 1);
  EXPECT_TRUE(IsDirect(advertised6)) << "its cluster is configured no more";
}

TEST_F(LearnedBrokersTest, AnotherClusterCannotHaveWhatOneHasLearned) {
  config.targets.push_back(MakeTarget("198.51.100.0", 24, 9092, 9092));
  StartAgent();
  Redirect& redirect = agent->redirect();
  ASSERT_TRUE(redirect.Learn(advertised4, 0, std::chrono::minutes(5)).ok());  // of the cluster "main"
  const absl::Status refused = redirect.Learn(advertised4, 1, std::chrono::minutes(5));
  EXPECT_TRUE(absl::IsAlreadyExists(refused)) << refused;
  for (const char* part : {"192.0.2.1:19092", "cluster six", "cluster main", "/intercept/targets"}) {
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr(part));
  }
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(agent->LastOrigin().targetIndex, 0);
  EXPECT_TRUE(redirect.Learn(advertised4, 2, std::chrono::minutes(5)).ok()) << "another target of the same cluster";
  DialInPod(advertised4);
  EXPECT_EQ(agent->LastOrigin().targetIndex, 2);
}

TEST_F(LearnedBrokersTest, AnotherClusterHasWhatHasExpired) {
  StartAgent({.heartbeatTimeout = std::chrono::hours(1)});  // no heartbeat clears it away
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(0)).ok());
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 1, std::chrono::minutes(5)).ok());
  DialInPod(advertised4);
  EXPECT_EQ(agent->LastOrigin().targetIndex, 1);
}

TEST_F(LearnedBrokersTest, AfterARestartTheClusterThatLearnedItHasItWhateverItsIndexIs) {
  StartAgent();
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::minutes(5)).ok());  // of the cluster "main"
  agent.reset();
  std::swap(config.targets[0], config.targets[1]);
  StartAgent();
  EXPECT_TRUE(absl::IsAlreadyExists(agent->redirect().Learn(advertised4, 0, std::chrono::minutes(5))));
  EXPECT_TRUE(agent->redirect().Learn(advertised4, 1, std::chrono::minutes(5)).ok());
  DialInPod(advertised4);
  EXPECT_EQ(agent->LastOrigin().targetIndex, 1);
}

TEST_F(LearnedBrokersTest, TargetThatDoesNotExistIsRefused) {
  StartAgent();
  EXPECT_TRUE(absl::IsInvalidArgument(agent->redirect().Learn(advertised4, 2, std::chrono::minutes(5))));
  EXPECT_EQ(Learned(), 0u);
}

}  // namespace
}  // namespace kveil::nettest
