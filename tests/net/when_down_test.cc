// What becomes of connects when the agent is gone: refused, or passed by where the operator said so.
#include "support/bpf_objects.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::ElementsAre;

class WhenDownTest : public Stage {
 protected:
  WhenDownTest() { StartBroker({broker4, broker6}); }

  const std::string direct = "echoed by 192.0.2.1:9092 as 192.0.2.2";
  const intercept::RedirectOptions quick = {.heartbeatTimeout = std::chrono::milliseconds(200)};
};

TEST_F(WhenDownTest, RefuseHoldsWhenTheAgentIsGone) {
  StartAgent(quick);
  agent.reset();
  const auto later = std::chrono::steady_clock::now() + 3 * quick.heartbeatTimeout;
  while (std::chrono::steady_clock::now() < later) {
    EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
    EXPECT_EQ(DialInPod(broker6), "ECONNREFUSED");
  }
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

TEST_F(WhenDownTest, RefuseHoldsWhenTheAgentIsKilled) {
  Workload process(node, nullptr, [this] {
    const TestAgent killed(config);
    return PauseForEver();
  });
  ASSERT_TRUE(Eventually([&] { return CountAttached(node) == kHooks.size(); }));
  ASSERT_TRUE(Eventually([&] { return DialInPod(broker4) == direct; }));
  const size_t before = broker->Clients().size();
  process.Kill();
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  EXPECT_EQ(broker->Clients().size(), before);
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), direct) << "and the next agent takes over";
  EXPECT_EQ(agent->Origins().size(), 1u);
}

TEST_F(WhenDownTest, BypassWaitsForTheHeartbeatToBeStale) {
  config.whenDown = config::WhenDown::kBypass;
  StartAgent({.heartbeatTimeout = std::chrono::seconds(3)});
  agent.reset();
  const auto gone = std::chrono::steady_clock::now();
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  EXPECT_TRUE(Eventually([&] { return DialInPod(broker4) == direct; }));
  // The last beat was at most a fifth of the timeout before the end.
  EXPECT_GT(std::chrono::steady_clock::now() - gone, std::chrono::milliseconds(2000));
}

TEST_F(WhenDownTest, BypassHoldsOnlyInNamespacesThatWereServed) {
  config.whenDown = config::WhenDown::kBypass;
  StartAgent(quick);
  agent.reset();
  ASSERT_TRUE(Eventually([&] { return DialInPod(broker4) == direct; }));
  const Pod never(node, "never-served");
  never.netns.Ip("addr add 192.0.2.1/32 dev lo");
  EXPECT_EQ(never.Run([this] { return Dial(broker4); }), "ECONNREFUSED");
  const UniqueFd listener = ListenIn(never.netns, broker4);
  EXPECT_EQ(never.Run([this] { return Dial(broker4); }), "ECONNREFUSED") << "although somebody listens now";
}

TEST_F(WhenDownTest, BypassDoesNotHoldWhileTheAgentLives) {
  config.whenDown = config::WhenDown::kBypass;
  const auto redirect = Redirect::Start(config, {.heartbeatTimeout = std::chrono::seconds(2)});
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  ASSERT_TRUE((*redirect)->MarkServed(pod.netns.cookie()).ok());
  const auto later = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  while (std::chrono::steady_clock::now() < later) EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

TEST_F(WhenDownTest, AgentThatComesBackEndsTheBypass) {
  config.whenDown = config::WhenDown::kBypass;
  StartAgent(quick);
  agent.reset();
  ASSERT_TRUE(Eventually([&] { return DialInPod(broker4) == direct; }));
  StartAgent(quick);
  EXPECT_EQ(DialInPod(broker4), direct);
  EXPECT_EQ(agent->Origins().size(), 1u);
}

// What was passed by once must not be remembered as redirected.
TEST_F(WhenDownTest, BypassedConnectionShowsItsRealEnds) {
  config.whenDown = config::WhenDown::kBypass;
  StartAgent(quick);
  Workload client(pod.cgroup, &pod.netns, [this]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    if (::connect(fd.get(), broker4.get(), broker4.size()) != 0) return ErrnoName(errno);
    if (const std::string first = Exchange(fd.get()); first != "echoed") return first;
    char byte;
    (void)!::recv(fd.get(), &byte, 1, 0);  // until the agent is gone
    std::string outcome;
    Eventually([&] {
      const sockaddr unspecified = {.sa_family = AF_UNSPEC, .sa_data = {}};
      ::connect(fd.get(), &unspecified, sizeof(unspecified));
      // An agent that is just ending may still take a connection and drop it.
      const bool connected = ::connect(fd.get(), broker4.get(), broker4.size()) == 0;
      outcome = connected ? Describe(fd.get()) : ErrnoName(errno);
      return outcome.find("echoed") == 0;
    });
    return outcome;
  });
  ASSERT_TRUE(Eventually([&] { return agent->open() == 1 && broker->open() == 1; }));
  agent.reset();
  EXPECT_EQ(client.Join(), direct);
}

}  // namespace
}  // namespace kveil::nettest
