// Attaching, pinning, detaching; other programs at the same hooks, other agents at the same pins.
#include <sys/stat.h>
#include <unistd.h>

#include <future>

#include "support/bpf_objects.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class AttachmentsTest : public Stage {
 protected:
  AttachmentsTest() { StartBroker({broker4, broker6}); }
  // The message of a Start that has to fail.
  std::string FailToStart() {
    const auto redirect = Redirect::Start(config);
    EXPECT_TRUE(absl::IsFailedPrecondition(redirect.status())) << redirect.status();
    return std::string(redirect.status().message());
  }
};

constexpr size_t kLinks = 7, kMaps = 12;

TEST_F(AttachmentsTest, EveryProgramAndEveryMapIsPinnedAndHealthSaysSo) {
  StartAgent();
  EXPECT_THAT(NamesIn(config.pinDirectory), SizeIs(kLinks + kMaps));
  for (const bpf_attach_type hook : kHooks) EXPECT_THAT(AttachedTo(node, hook), SizeIs(1));
  EXPECT_TRUE(agent->redirect().Health().ok()) << agent->redirect().Health();
}

TEST_F(AttachmentsTest, ProgramThatAllowsNoOtherIsNamedAndNothingIsChanged) {
  for (const bpf_attach_type hook : {BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_GETSOCKNAME}) {
    const Cgroup own;
    config = MakeConfig(own);
    const UniqueFd program = LoadPassingProgram(hook, "jealous_tool");
    AttachLegacy(program, own, hook);
    EXPECT_THAT(FailToStart(), AllOf(HasSubstr("program 'jealous_tool' (id "), HasSubstr(own.path()),
                                     HasSubstr("allows no other beside it")));
    EXPECT_EQ(CountAttached(own), 1u) << "the other program alone";
    EXPECT_NE(::access(config.pinDirectory.c_str(), F_OK), 0) << "pins are left";
    EXPECT_NE(::access((own.path() + "/kveil-agent").c_str(), F_OK), 0) << "a cgroup is left";
  }
}

TEST_F(AttachmentsTest, ProgramOfAParentCgroupIsNamedToo) {
  const Cgroup parent;
  const Cgroup child(parent, "child");
  config = MakeConfig(child);
  const UniqueFd program = LoadPassingProgram(BPF_CGROUP_INET4_CONNECT, "jealous_parent");
  AttachLegacy(program, parent, BPF_CGROUP_INET4_CONNECT);
  EXPECT_THAT(FailToStart(),
              AllOf(HasSubstr("program 'jealous_parent'"), HasSubstr("attached to " + parent.path() + " ")));
  EXPECT_EQ(CountAttached(child), 0u);
}

TEST_F(AttachmentsTest, ProgramThatAllowsOthersStaysAndBothRun) {
  const UniqueFd program = LoadPassingProgram(BPF_CGROUP_INET4_CONNECT, "friendly_tool");
  AttachLegacy(program, node, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_MULTI);
  StartAgent();
  EXPECT_THAT(AttachedTo(node, BPF_CGROUP_INET4_CONNECT), SizeIs(2));
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(agent->Origins(), SizeIs(1));
}

TEST_F(AttachmentsTest, SecondAgentWithTheSamePinsIsRefusedAndTheFirstGoesOn) {
  StartAgent();
  EXPECT_THAT(FailToStart(), HasSubstr("another kveil agent is running with the pins in " + config.pinDirectory));
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(agent->Origins(), SizeIs(1));
}

TEST_F(AttachmentsTest, OfTwoAgentsThatStartAtTheSameTimeAtMostOneStays) {
  config::InterceptConfig other = config;
  other.pinDirectory = UniquePinDirectory();
  const DetachAtEnd detachOther{other};
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(Redirect::Detach(config).ok() && Redirect::Detach(other).ok());
    auto starting = std::async(std::launch::async, [&] { return Redirect::Start(other); });
    const auto one = Redirect::Start(config);
    const auto two = starting.get();
    EXPECT_FALSE(one.ok() && two.ok());
    const size_t left = one.ok() || two.ok() ? kLinks : 0;
    EXPECT_TRUE(Eventually([&] { return CountAttached(node) == left; })) << CountAttached(node);
  }
}

// As a DaemonSet that surges would start it: with the pins of a container of its own.
TEST_F(AttachmentsTest, SecondAgentWithOtherPinsIsRefusedAndTheFirstGoesOn) {
  StartAgent();
  const Cgroup below(pod.cgroup, "below");
  for (const std::string& path : {node.path(), pod.cgroup.path(), below.path()}) {
    config.cgroup = path;
    config.pinDirectory = UniquePinDirectory();
    EXPECT_THAT(FailToStart(), AllOf(HasSubstr("another kveil agent is attached to " + node.path() + " (program"),
                                     HasSubstr("kveil detach")));
    EXPECT_NE(::access(config.pinDirectory.c_str(), F_OK), 0) << "pins are left";
  }
  EXPECT_EQ(CountAttached(node), kLinks);
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(agent->Origins(), SizeIs(1));
}

TEST_F(AttachmentsTest, AgentAboveAnotherOneIsRefused) {
  const Cgroup child(node, "child");
  config::InterceptConfig lower = config;
  lower.cgroup = child.path();
  lower.pinDirectory = UniquePinDirectory();
  const DetachAtEnd detachLower{lower};
  auto first = Redirect::Start(lower);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(FailToStart(), HasSubstr("another kveil agent is attached to " + child.path() + " "));
  first->reset();
  EXPECT_THAT(FailToStart(), HasSubstr("another kveil agent is attached to " + child.path() + " "))
      << "its programs stay when it ends";
  EXPECT_EQ(CountAttached(node), 0u);
}

TEST_F(AttachmentsTest, AgentBesideAnotherOneStarts) {
  StartAgent();
  const Cgroup beside;
  config::InterceptConfig other = MakeConfig(beside);
  const DetachAtEnd detachOther{other};
  const auto second = Redirect::Start(other);
  EXPECT_TRUE(second.ok()) << second.status();
}

TEST_F(AttachmentsTest, FirstStartThatFailsLaterTakesEverythingAwayAgain) {
  auto redirect = Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  EXPECT_TRUE((*redirect)->TakeAwayIfNew());
  redirect->reset();
  EXPECT_EQ(CountAttached(node), 0u);
  EXPECT_NE(::access(config.pinDirectory.c_str(), F_OK), 0);
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
}

TEST_F(AttachmentsTest, LaterStartThatFailsLaterLeavesEverything) {
  StartAgent();
  agent.reset();
  auto redirect = Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  EXPECT_FALSE((*redirect)->TakeAwayIfNew());
  redirect->reset();
  EXPECT_EQ(CountAttached(node), kLinks);
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
}

TEST_F(AttachmentsTest, StartThatFailsLeavesWhatAnEarlierAgentPinned) {
  StartAgent();
  agent.reset();
  const std::vector<std::string> before = NamesIn(config.pinDirectory);
  const std::vector<uint32_t> programs = AttachedTo(node, BPF_CGROUP_INET4_CONNECT);
  const Cgroup other;
  const config::InterceptConfig good = config;
  config.cgroup = other.path();
  const UniqueFd program = LoadPassingProgram(BPF_CGROUP_INET6_CONNECT, "jealous_tool");
  AttachLegacy(program, other, BPF_CGROUP_INET6_CONNECT);
  EXPECT_THAT(FailToStart(), HasSubstr("jealous_tool"));
  EXPECT_EQ(NamesIn(config.pinDirectory), before);
  EXPECT_EQ(AttachedTo(node, BPF_CGROUP_INET4_CONNECT), programs);
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  config = good;
}

TEST_F(AttachmentsTest, RestartWithAnotherCgroupLeavesTheOldOneAlone) {
  StartAgent();
  agent.reset();
  const Cgroup other;
  config.cgroup = other.path();
  agent = std::make_unique<TestAgent>(config);
  // The kernel lets go of a link whose pin was removed a little later.
  EXPECT_TRUE(Eventually([&] { return CountAttached(node) == 0; }));
  EXPECT_EQ(CountAttached(other), kLinks);
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(agent->Origins(), SizeIs(0));
}

TEST_F(AttachmentsTest, DetachTakesEverythingAwayAndConnectsAreDirect) {
  StartAgent();
  agent.reset();
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  const absl::StatusOr<int> detached = Redirect::Detach(config);
  ASSERT_TRUE(detached.ok()) << detached.status();
  EXPECT_EQ(*detached, int{kLinks});
  EXPECT_EQ(CountAttached(node), 0u);
  EXPECT_NE(::access(config.pinDirectory.c_str(), F_OK), 0);
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  const absl::StatusOr<int> again = Redirect::Detach(config);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(*again, 0);
}

TEST_F(AttachmentsTest, DetachIsRefusedWhileAnAgentRuns) {
  StartAgent();
  EXPECT_TRUE(absl::IsFailedPrecondition(Redirect::Detach(config).status()));
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(agent->Origins(), SizeIs(1));
}

TEST_F(AttachmentsTest, HealthSaysWhenALinkRunsAnotherProgram) {
  StartAgent();
  const UniqueFd link(::bpf_obj_get((config.pinDirectory + "/link_connect4").c_str()));
  const UniqueFd other = LoadPassingProgram(BPF_CGROUP_INET4_CONNECT, "other_tool");
  ASSERT_EQ(::bpf_link_update(link.get(), other.get(), nullptr), 0);
  const absl::Status health = agent->redirect().Health();
  EXPECT_TRUE(absl::IsFailedPrecondition(health)) << health;
  EXPECT_THAT(std::string(health.message()), HasSubstr("somebody has replaced connect4 by the program 'other_tool'"));
  agent.reset();
  StartAgent();
  EXPECT_TRUE(agent->redirect().Health().ok()) << agent->redirect().Health();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(agent->Origins(), SizeIs(1));
}

TEST_F(AttachmentsTest, HealthSaysWhenTheCgroupIsGoneAndTheProgramsWithIt) {
  auto own = std::make_unique<Cgroup>();
  config = MakeConfig(*own);
  auto redirect = Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  EXPECT_TRUE((*redirect)->Health().ok());
  own.reset();
  EXPECT_TRUE(Eventually([&] { return absl::IsFailedPrecondition((*redirect)->Health()); }));
  redirect->reset();
  EXPECT_TRUE(Redirect::Detach(config).ok());
}

}  // namespace
}  // namespace kveil::nettest
