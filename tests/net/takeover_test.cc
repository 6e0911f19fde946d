// A restarted agent takes over what the last one left, without a gap.
#include <poll.h>
#include <sys/socket.h>

#include "base/text.h"
#include "support/pinned_maps.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::ElementsAre;

class TakeoverTest : public Stage {
 protected:
  TakeoverTest() { StartBroker({broker4}); }
};

// Accepts and closes, whichever agent runs: a listener that outlives them shows what the links and maps do alone.
class Acceptor {
 public:
  explicit Acceptor(UniqueFd listener) : listener_(std::move(listener)), thread_([this] { Run(); }) {}
  ~Acceptor() {
    stop_ = true;
    thread_.join();
  }
  size_t accepted() const { return accepted_; }

 private:
  void Run() {
    while (!stop_) {
      pollfd wait = {.fd = listener_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&wait, 1, 20) <= 0) continue;
      const UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (connection.valid()) ++accepted_;
    }
  }
  UniqueFd listener_;
  std::atomic<bool> stop_{false};
  std::atomic<size_t> accepted_{0};
  std::thread thread_;
};

// Connects one after the other, each until the other end closes; returns how they ended.
std::string ConnectFor(std::chrono::milliseconds duration, const SocketAddress& address) {
  size_t connected = 0;
  std::string failures;
  const auto end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const linger reset = {.l_onoff = 1, .l_linger = 0};  // no TIME_WAIT, so the ports are enough
    ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if (::connect(fd.get(), address.get(), address.size()) != 0) {
      failures += ErrnoName(errno) + " ";
      continue;
    }
    ++connected;
    char byte;
    (void)!::recv(fd.get(), &byte, 1, 0);
  }
  return StrCat(connected, " ", failures);
}

TEST_F(TakeoverTest, ConnectsAreNeitherRefusedNorPassedByWhileAgentsTakeOver) {
  auto redirect = Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  Acceptor acceptor(ListenInPod(**redirect).v4);

  std::atomic<bool> running{true};
  std::string outcome;
  std::thread client([&] {
    outcome = pod.Run([this] { return ConnectFor(std::chrono::milliseconds(2500), broker4); });
    running = false;
  });
  ASSERT_TRUE(Eventually([&] { return acceptor.accepted() > 0; }));
  int takeovers = 0;
  while (running) {
    redirect->reset();
    redirect = Redirect::Start(config);
    if (!redirect.ok()) break;
    ++takeovers;
  }
  client.join();
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  EXPECT_GE(takeovers, 3);
  EXPECT_EQ(outcome, StrCat(acceptor.accepted(), " ")) << "connects that succeeded, and errors";
  EXPECT_THAT(broker->Clients(), ElementsAre()) << "reached the broker past the agent";
  EXPECT_GT(acceptor.accepted(), 100u);
  EXPECT_EQ(CountElements(**redirect, "interim"), 0u);
  RecordProperty("takeovers", takeovers);
}

// A connection that the last agent left unaccepted belongs to the target that its destination has now, if any.
TEST_F(TakeoverTest, OriginOfAConnectionFollowsTheConfigurationOfTheAgentThatAccepts) {
  auto redirect = Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  const intercept::Listeners listeners = ListenInPod(**redirect);
  const Workload one(pod.cgroup, &pod.netns, [this] { return Dial(broker4); });
  const Workload two(pod.cgroup, &pod.netns, [this] { return Dial(broker4); });
  const std::vector<config::Target> targets = config.targets;
  config::Target elsewhere = targets.front();
  elsewhere.network = *SocketAddress::Parse("198.51.100.0", 0);
  const auto originUnder = [&](std::vector<config::Target> now) {
    pollfd wait = {.fd = listeners.v4.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&wait, 1, 10000), 1);
    redirect->reset();
    config.targets = std::move(now);
    redirect = Redirect::Start(config);
    EXPECT_TRUE(redirect.ok()) << redirect.status();
    const UniqueFd accepted(::accept4(listeners.v4.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return (*redirect)->OriginOf(accepted.get());
  };
  std::vector<config::Target> moved = {elsewhere};
  moved.insert(moved.end(), targets.begin(), targets.end());
  const absl::StatusOr<identity::Origin> origin = originUnder(moved);
  ASSERT_TRUE(origin.ok()) << origin.status();
  EXPECT_EQ(origin->targetIndex, 1);
  EXPECT_EQ(originUnder({elsewhere}).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TakeoverTest, OriginOfAConnectionThatTheLastAgentLeftUnacceptedIsKnown) {
  auto first = Redirect::Start(config);
  ASSERT_TRUE(first.ok()) << first.status();
  const intercept::Listeners listeners = ListenInPod(**first);
  const Workload client(pod.cgroup, &pod.netns, [this] { return Dial(broker4); });
  pollfd wait = {.fd = listeners.v4.get(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&wait, 1, 10000), 1);
  first->reset();
  const auto second = Redirect::Start(config);
  ASSERT_TRUE(second.ok()) << second.status();
  const UniqueFd accepted(::accept4(listeners.v4.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const absl::StatusOr<identity::Origin> origin = (*second)->OriginOf(accepted.get());
  ASSERT_TRUE(origin.ok()) << origin.status();
  EXPECT_EQ(origin->destination.Text(), "192.0.2.1:9092");
  EXPECT_EQ(origin->cgroupId, pod.cgroup.id());
}

TEST_F(TakeoverTest, RestartedAgentServesTheWorkloadsThatTheLastOneServed) {
  for (int round = 0; round < 3; ++round) {
    StartAgent();
    EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
    EXPECT_EQ(agent->Origins().size(), 1u);
    agent.reset();
  }
}

}  // namespace
}  // namespace kveil::nettest
