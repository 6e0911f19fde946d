// The probe connect that decides whether an agent may call itself ready.
#include <unistd.h>

#include <filesystem>
#include <iterator>

#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::HasSubstr;

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator open("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(open), end(open)));
}

class ProbeTest : public testing::Test {
 protected:
  std::unique_ptr<Redirect> StartRedirect() {
    auto redirect = Redirect::Start(config, {.holdTime = std::chrono::milliseconds(0)});
    Require(redirect.ok(), std::string(redirect.status().message()));
    return *std::move(redirect);
  }

  Cgroup node;
  config::InterceptConfig config = MakeConfig(node);
  DetachAtEnd detach{config};
};

TEST_F(ProbeTest, ArrivesOnceTheNodeIsServed) {
  TestAgent agent(config);
  const absl::Status probed = agent.redirect().Probe(std::chrono::seconds(20));
  EXPECT_TRUE(probed.ok()) << probed;
  EXPECT_TRUE(agent.Origins().empty()) << "a probe is nobody's connection";
}

TEST_F(ProbeTest, FailsWhereNobodyListens) {
  const std::unique_ptr<Redirect> redirect = StartRedirect();
  const absl::Status probed = redirect->Probe(std::chrono::seconds(20));
  EXPECT_TRUE(absl::IsUnavailable(probed)) << probed;
  EXPECT_THAT(std::string(probed.message()), HasSubstr("was not redirected to the agent: Connection refused"));
}

TEST_F(ProbeTest, FailsWhenTheListenerIsNotTaggedAsTheAgents) {
  const std::unique_ptr<Redirect> redirect = StartRedirect();
  const UniqueFd listener = ListenHere(Address("127.0.0.1", config.listenPort));
  const absl::Status probed = redirect->Probe(std::chrono::seconds(20));
  EXPECT_TRUE(absl::IsUnavailable(probed)) << probed;
}

TEST_F(ProbeTest, FailsWhenNobodyAcceptsIt) {
  const std::unique_ptr<Redirect> redirect = StartRedirect();
  const absl::StatusOr<UniqueFd> here = intercept::OpenNamespace(intercept::NamespaceFile(::getpid()));
  ASSERT_TRUE(here.ok()) << here.status();
  const auto listeners = intercept::MakeListeners(redirect->listenerPlace(), here->get(), intercept::Families::kBoth);
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  const size_t descriptors = OpenDescriptors();
  const absl::Status probed = redirect->Probe(std::chrono::milliseconds(200));
  EXPECT_TRUE(absl::IsDeadlineExceeded(probed)) << probed;
  EXPECT_EQ(OpenDescriptors(), descriptors) << "its connection is left open";
}

TEST_F(ProbeTest, IsNotThatOfAWorkloadThatConnectsThere) {
  TestAgent agent(config);
  (void)RunWorkload(node, nullptr, [] { return Dial(Address("127.255.255.254", 9)); });
  EXPECT_TRUE(Eventually([&] { return agent.strangers() == 1; })) << "it is turned away as somebody else's";
}

}  // namespace
}  // namespace kveil::nettest
