// Brokers that a response advertised outside the configured targets.
#include <sys/stat.h>

#include <thread>

#include "base/text.h"
#include "intercept.h"
#include "intercept/kernel/endpoint.h"
#include "intercept/kernel/target_table.h"
#include "support/bpf_objects.h"
#include "support/pinned_maps.h"
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
  // A map of learned brokers with one entry, as an agent of another version leaves it.
  template <typename Key>
  void PinLearned(const std::string& name, const Key& key, const void* value, uint32_t valueSize) const {
    DECLARE_LIBBPF_OPTS(bpf_map_create_opts, options);
    options.map_flags = BPF_F_NO_PREALLOC;
    const UniqueFd map(::bpf_map_create(BPF_MAP_TYPE_HASH, "learned", sizeof(key), valueSize, 10, &options));
    Require(::bpf_map_update_elem(map.get(), &key, value, BPF_ANY) == 0, "writing to a map");
    Require(::bpf_obj_pin(map.get(), (config.pinDirectory + "/" + name).c_str()) == 0, "pinning a map");
  }
  size_t Learned() const { return CountElements(agent->redirect(), "learned"); }

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

TEST_F(LearnedBrokersTest, ExpiredBrokerIsRefusedUntilAResponseNamesItAgain) {
  StartAgent({.heartbeatTimeout = std::chrono::milliseconds(500)});
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(1)).ok());
  ASSERT_TRUE(agent->redirect().Learn(advertised6, 1, std::chrono::seconds(1)).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  for (const SocketAddress& broker : {advertised4, advertised6}) EXPECT_EQ(DialInPod(broker), "ECONNREFUSED");
  EXPECT_TRUE(broker->Clients().empty()) << "reached past the agent";
  EXPECT_TRUE(agent->redirect().IsTarget(advertised4));
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(100)).ok());
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(agent->Origins().size(), 1u);
  EXPECT_EQ(DialInPod(advertised6), "ECONNREFUSED");
  EXPECT_EQ(Learned(), 2u);
}

TEST_F(LearnedBrokersTest, WhatHadExpiredBeforeTheAgentEndedStaysSoWhenItComesBack) {
  StartAgent({.heartbeatTimeout = std::chrono::milliseconds(250)});
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(0)).ok());
  ASSERT_TRUE(agent->redirect().Learn(advertised6, 1, std::chrono::minutes(5)).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // several heartbeats
  agent.reset();
  StartAgent();
  EXPECT_EQ(DialInPod(advertised4), "ECONNREFUSED");
  EXPECT_EQ(DialInPod(advertised6), "echoed by [2001:db8:77::1]:19092 as 2001:db8:77::2");
  EXPECT_TRUE(agent->redirect().IsTarget(advertised4));
}

TEST_F(LearnedBrokersTest, AcceptedConnectionProlongsTheLifeTime) {
  StartAgent();
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(1)).ok());
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(agent->Origins().size(), 2u);
}

TEST_F(LearnedBrokersTest, LearningAgainProlongsTheLifeTime) {
  StartAgent();
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::seconds(0)).ok());
  EXPECT_EQ(DialInPod(advertised4), "ECONNREFUSED");
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::minutes(5)).ok());
  EXPECT_FALSE(IsDirect(advertised4));
  EXPECT_EQ(agent->Origins().size(), 1u);
}

// Responses can be made up, so a cluster may have so many and no more; the others are not touched by that.
TEST_F(LearnedBrokersTest, ClusterThatHasItsFillLearnsNoMoreAndTheOthersDo) {
  StartAgent();
  Redirect& redirect = agent->redirect();
  const auto made = [](size_t i) { return Address(StrCat("100.64.", i / 256, ".", i % 256), 9092); };
  for (size_t i = 0; i < KVEIL_MAX_LEARNED_OF_CLUSTER; ++i) {
    ASSERT_TRUE(redirect.Learn(made(i), 0, std::chrono::seconds(i % 2 * 1000)).ok()) << i;  // every other one expired
  }
  const absl::Status full = redirect.Learn(advertised4, 0, std::chrono::minutes(5));
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_THAT(std::string(full.message()),
              testing::AllOf(testing::HasSubstr("cluster main has"), testing::HasSubstr("/intercept/targets")));
  EXPECT_EQ(redirect.LearnedHealth(), full);
  EXPECT_TRUE(redirect.Learn(made(7), 0, std::chrono::minutes(5)).ok()) << "it is known";
  EXPECT_TRUE(redirect.Learn(advertised6, 1, std::chrono::minutes(5)).ok()) << "another cluster's";
  agent.reset();
  config.targets.push_back(MakeTarget("100.64.0.0", 16, 9092, 9092));
  StartAgent();
  EXPECT_EQ(Learned(), 1u) << "what is a target by configuration need not be learned";
  EXPECT_TRUE(agent->redirect().LearnedHealth().ok());
  EXPECT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::minutes(5)).ok());
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

// The maps of versions before and after this one, whose values are shorter and longer.
TEST_F(LearnedBrokersTest, WhatAnAgentOfAnotherVersionHasLearnedStaysInForce) {
  struct Longer {
    kveil_learned learned;
    uint64_t more[2];
  };
  ASSERT_EQ(::mkdir(config.pinDirectory.c_str(), 0700), 0);
  const kveil_learned value = {.expires = 1, .cluster = intercept::ClusterHash("main"), .target = 7, .padding = 0};
  const Longer longer = {.learned = {.expires = 1, .cluster = intercept::ClusterHash("six"), .target = 7, .padding = 0},
                         .more = {1, 2}};
  PinLearned("map_v90_learned", intercept::ToEndpoint(advertised4), &value, sizeof(value));
  PinLearned("map_v91_learned", intercept::ToEndpoint(advertised6), &longer, sizeof(longer));
  StartAgent();
  EXPECT_EQ(DialInPod(advertised4), "echoed by 192.0.2.1:19092 as 192.0.2.2");
  EXPECT_EQ(agent->LastOrigin().targetIndex, 0);
  EXPECT_EQ(DialInPod(advertised6), "echoed by [2001:db8:77::1]:19092 as 2001:db8:77::2");
  EXPECT_EQ(agent->Origins().size(), 2u) << "none went past the agent";
  EXPECT_THAT(NamesIn(config.pinDirectory), testing::Not(testing::Contains(testing::HasSubstr("map_v9"))));
}

TEST_F(LearnedBrokersTest, LearnedBrokersThatCannotBeReadAreNamedAndTheLinksStayAsTheyAre) {
  StartAgent();
  ASSERT_TRUE(agent->redirect().Learn(advertised4, 0, std::chrono::minutes(5)).ok());
  agent.reset();
  const std::vector<uint32_t> before = AttachedTo(node, BPF_CGROUP_INET4_CONNECT);
  const uint64_t key = 1, value = 1;
  PinLearned("map_v90_learned", key, &value, sizeof(value));
  const auto redirect = Redirect::Start(config);
  EXPECT_TRUE(absl::IsFailedPrecondition(redirect.status())) << redirect.status();
  EXPECT_THAT(std::string(redirect.status().message()), testing::HasSubstr("map_v90_learned: cannot adopt this map"));
  EXPECT_EQ(AttachedTo(node, BPF_CGROUP_INET4_CONNECT), before);
  EXPECT_EQ(DialInPod(advertised4), "ECONNREFUSED");
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
