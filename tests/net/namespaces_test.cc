// Which namespaces are served and when: those that were there first, new ones, ones that end and come back.
#include "intercept/namespaces/namespaces.h"

#include <fcntl.h>
#include <sched.h>

#include <atomic>
#include <future>
#include <thread>

#include "support/pinned_maps.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class NamespacesTest : public Stage {
 protected:
  NamespacesTest() { StartBroker({broker4, broker6}); }

  // What stays when only the agent's own namespace is served.
  bool OnlyOwnIsLeft() const {
    const auto status = agent->namespaces().Status();
    return status.size() == 1 && status[0].process == 0 && CountElements(agent->redirect(), "served") == 1;
  }
};

TEST_F(NamespacesTest, WorkloadThatRanBeforeTheAgentIsServedFromItsFirstConnect) {
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  for (const auto& status : agent->namespaces().Status()) EXPECT_EQ(status.refusedConnects, 0u);
}

TEST_F(NamespacesTest, NewNamespaceIsServedAfterItsFirstRefusedConnectWhereNothingIsHeld) {
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{.holdTime = std::chrono::milliseconds(0)});
  const Pod late(node, "late");
  const std::string first = late.Run([this] { return Dial(broker4); });
  EXPECT_EQ(first, "ECONNREFUSED");
  EXPECT_TRUE(Eventually([&] { return agent->IsServed(late.netns.cookie()); }))
      << agent->namespaces().Health() << ", namespace " << late.netns.cookie();
}

TEST_F(NamespacesTest, NamespaceThatNeverConnectsIsServedByTheNextComparison) {
  agent =
      std::make_unique<TestAgent>(config, intercept::RedirectOptions{},
                                  intercept::Namespaces::Options{.reconcileInterval = std::chrono::milliseconds(50)});
  const Pod late(node, "late");
  EXPECT_TRUE(Eventually([&] { return agent->IsServed(late.netns.cookie()); }));
}

// The connecting thread alone has left for another namespace, as a program with setns does.
TEST_F(NamespacesTest, NamespaceOfAThreadAloneIsServed) {
  StartAgent();
  const Netns elsewhere;
  const std::string file = intercept::NamespaceFile(elsewhere.holder());
  const std::string outcome = pod.Run([&]() -> std::string {
    bool connected = false;
    std::thread([&] {
      const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
      Require(::setns(fd.get(), CLONE_NEWNET) == 0, "setns");
      const UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
      connected = Eventually([&] { return ::connect(client.get(), broker4.get(), broker4.size()) == 0; });
      char byte;
      (void)!::recv(client.get(), &byte, 1, 0);  // the agent has no way to the broker from there, and closes
    }).join();
    return connected ? "connected" : ErrnoName(errno);
  });
  EXPECT_EQ(outcome, "connected");
  ASSERT_EQ(agent->Origins().size(), 1u);
  EXPECT_EQ(agent->LastOrigin().netnsCookie, elsewhere.cookie());
}

TEST_F(NamespacesTest, Ipv6ThatComesLaterIsServedFromTheFirstRefusedConnect) {
  pod.netns.Ip("-6 addr flush dev lo");
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_EQ(DialInPod(broker6), "ECONNREFUSED");
  pod.netns.Ip("-6 addr add ::1/128 dev lo");
  EXPECT_TRUE(Eventually([&] { return DialInPod(broker6) == "echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2"; }));
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
}

TEST_F(NamespacesTest, AddressThatChangesIsShownAfterTheNextComparison) {
  agent =
      std::make_unique<TestAgent>(config, intercept::RedirectOptions{},
                                  intercept::Namespaces::Options{.reconcileInterval = std::chrono::milliseconds(50)});
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  pod.netns.Ip("addr del 192.0.2.2/24 dev eth0");
  pod.netns.Ip("addr add 192.0.2.77/24 dev eth0");
  EXPECT_TRUE(Eventually([&] { return DialInPod(broker4) == "echoed by 192.0.2.1:9092 as 192.0.2.77"; }));
  EXPECT_EQ(broker->Clients().back(), "192.0.2.77");
}

TEST_F(NamespacesTest, LastWorkloadsEndLetsGoOfTheNamespace) {
  StartAgent();
  Workload second(pod.cgroup, &pod.netns, PauseForEver);
  pod.End();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2") << "a second workload still lives there";
  EXPECT_EQ(agent->released(), 0u);
  second.Kill();
  EXPECT_TRUE(Eventually([&] { return OnlyOwnIsLeft(); }));
  EXPECT_EQ(agent->released(), 1u);
}

TEST_F(NamespacesTest, NamespaceThatWasLetGoOfIsRefusedNotPassedBy) {
  StartAgent({.holdTime = std::chrono::milliseconds(0)});
  pod.End();
  ASSERT_TRUE(Eventually([&] { return OnlyOwnIsLeft(); }));
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

TEST_F(NamespacesTest, NamespaceThatComesBackIsServedAgain) {
  StartAgent();
  for (int round = 0; round < 3; ++round) {
    pod.End();
    ASSERT_TRUE(Eventually([&] { return OnlyOwnIsLeft(); }));
    const Workload back(pod.cgroup, &pod.netns, PauseForEver);
    std::string outcome;
    EXPECT_TRUE(Eventually([&] { return (outcome = DialInPod(broker4)) != "ECONNREFUSED"; }));
    EXPECT_EQ(outcome, "echoed by 192.0.2.1:9092 as 192.0.2.2");
  }
}

TEST_F(NamespacesTest, ConnectionsOfANamespaceThatEndsAreClosed) {
  StartAgent();
  Workload client(pod.cgroup, &pod.netns, [this]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    ::connect(fd.get(), broker4.get(), broker4.size());
    Exchange(fd.get());
    return PauseForEver();
  });
  ASSERT_TRUE(Eventually([&] { return broker->open() == 1; }));
  pod.End();
  client.Kill();
  EXPECT_TRUE(Eventually([&] { return broker->open() == 0 && OnlyOwnIsLeft(); }));
}

TEST_F(NamespacesTest, OneThatCannotBeServedDoesNotKeepTheOthersFromIt) {
  const Pod broken(node, "broken");
  broken.netns.Ip("link set lo down");
  broken.netns.Ip("addr flush dev lo");
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_TRUE(agent->namespaces().Health().ok()) << "a workload can do that to itself";
  const absl::Status noted = agent->namespaces().WorkloadsNotServed();
  EXPECT_THAT(std::string(noted.message()), HasSubstr("1 network namespace is not served"));
  EXPECT_THAT(std::string(noted.message()), HasSubstr("lo is down"));
}

TEST_F(NamespacesTest, OneThatTheAgentHasNoProcessForIsAProblemOfTheAgent) {
  agent =
      std::make_unique<TestAgent>(config, intercept::RedirectOptions{},
                                  intercept::Namespaces::Options{.reconcileInterval = std::chrono::milliseconds(50)});
  ASSERT_TRUE(agent->namespaces().Health().ok());
  ASSERT_EQ(::rmdir((config.cgroup + "/kveil-agent").c_str()), 0);
  const Pod late(node, "late");
  EXPECT_TRUE(Eventually([&] { return !agent->namespaces().Health().ok(); }));
  EXPECT_TRUE(agent->namespaces().WorkloadsNotServed().ok());
}

TEST_F(NamespacesTest, ThreadThatHangsIsNoticed) {
  auto redirect = intercept::Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  std::promise<void> freed;
  std::shared_future<void> free = freed.get_future().share();
  std::atomic<bool> hangs{false};
  intercept::Namespaces::Callbacks callbacks;
  callbacks.serve = [&](uint64_t, std::vector<UniqueFd>) {
    if (hangs) free.wait();
  };
  callbacks.release = [](uint64_t) {};
  auto namespaces =
      intercept::Namespaces::Start(**redirect, callbacks, {.reconcileInterval = std::chrono::milliseconds(50)});
  ASSERT_TRUE(namespaces.ok()) << namespaces.status();
  constexpr std::chrono::milliseconds kPatience(500);
  const auto isWell = [&] { return (*namespaces)->CheckThread(kPatience).ok(); };
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(isWell());
    std::this_thread::sleep_for(kPatience / 5);
  }
  hangs = true;
  const Pod late(node, "late");
  EXPECT_TRUE(Eventually([&] { return !isWell(); }));
  freed.set_value();
  EXPECT_TRUE(Eventually([&] { return isWell(); }));
}

TEST_F(NamespacesTest, RestartedAgentForgetsNamespacesThatEndedMeanwhile) {
  StartAgent();
  agent.reset();
  pod.End();
  agent = std::make_unique<TestAgent>(config);
  EXPECT_TRUE(OnlyOwnIsLeft());
}

}  // namespace
}  // namespace kveil::nettest
