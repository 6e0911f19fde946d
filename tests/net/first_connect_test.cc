// The first connects in a new network namespace: held until the agent serves it, whatever goes wrong meanwhile.
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "base/text.h"
#include "support/bpf_objects.h"
#include "support/network.h"
#include "support/pinned_maps.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::ElementsAre;

class FirstConnectTest : public Stage {
 protected:
  FirstConnectTest() {
    StartBroker({broker4, Address("192.0.2.1", 9099)});
    pod.End();  // nobody lives there until a test connects
  }

  std::unique_ptr<Redirect> StartRedirect(std::chrono::milliseconds holdTime) {
    auto redirect = Redirect::Start(config, {.holdTime = holdTime});
    Require(redirect.ok(), std::string(redirect.status().message()));
    return *std::move(redirect);
  }
  static bool IsHeld(const Redirect& redirect, uint64_t count = 1) { return redirect.heldConnects().held == count; }
};

// Not the default: the load of a test machine is no part of these tests.
constexpr intercept::RedirectOptions kPatient = {.holdTime = std::chrono::seconds(8)};

TEST_F(FirstConnectTest, SucceedsAndIsCounted) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  EXPECT_EQ(DialInPod(broker4), kEchoed);
  EXPECT_THAT(broker->Clients(), ElementsAre("192.0.2.2"));
  EXPECT_EQ(agent->Origins().size(), 1u);
  const intercept::HeldConnects counts = agent->redirect().heldConnects();
  EXPECT_EQ(counts.held, 1u);
  EXPECT_EQ(counts.released, 1u);
  EXPECT_EQ(counts.ended, 0u);
  EXPECT_EQ(CountElements(agent->redirect(), "interim"), 0u);
}

TEST_F(FirstConnectTest, SecondIsNotHeld) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  const std::string both = pod.Run([this] { return StrCat(Dial(broker4), ", ", Dial(broker4)); });
  EXPECT_EQ(both, StrCat(kEchoed, ", ", kEchoed));
  EXPECT_TRUE(IsHeld(agent->redirect()));
}

TEST_F(FirstConnectTest, ManyAtOnceInOneNamespaceAllSucceed) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  const std::string outcome = pod.Run([this]() -> std::string {
    std::vector<UniqueFd> sockets;
    for (int i = 0; i < 150; ++i) {  // more than the agent is told of
      sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      if (::connect(sockets.back().get(), broker4.get(), broker4.size()) != 0 && errno != EINPROGRESS) {
        return ErrnoName(errno);
      }
    }
    std::set<std::string> outcomes;
    for (const UniqueFd& fd : sockets) {
      pollfd wait = {.fd = fd.get(), .events = POLLOUT, .revents = 0};
      ::poll(&wait, 1, 20000);
      outcomes.insert(Exchange(fd.get()));
    }
    return outcomes.size() == 1 ? *outcomes.begin() : "several outcomes";
  });
  EXPECT_EQ(outcome, "echoed");
}

// More namespaces at once than the agent is told of.
TEST_F(FirstConnectTest, ConnectFromANamespaceThatTheAgentDoesNotHearOfIsRefused) {
  constexpr int kNamespaces = 110, kEvents = 100;
  const std::unique_ptr<Redirect> redirect = StartRedirect(std::chrono::seconds(60));
  const std::string outcome = RunWorkload(pod.cgroup, nullptr, [this]() -> std::string {
    std::vector<UniqueFd> sockets;
    for (int i = 0; i < kNamespaces; ++i) {
      Require(::unshare(CLONE_NEWNET) == 0, "a network namespace");
      sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    }
    const auto sinceSecond = [] {
      return std::chrono::steady_clock::now().time_since_epoch() % std::chrono::seconds(1);
    };
    while (sinceSecond() > std::chrono::milliseconds(200)) ::usleep(10'000);  // it is a second's events that count
    int refused = 0;
    for (const UniqueFd& fd : sockets) {
      refused += ::connect(fd.get(), broker4.get(), broker4.size()) != 0 && errno == ECONNREFUSED ? 1 : 0;
    }
    return StrCat(refused, " are refused");
  });
  EXPECT_EQ(outcome, StrCat(kNamespaces - kEvents, " are refused"));
  EXPECT_TRUE(IsHeld(*redirect, kEvents));
}

// One-shot producers of a node: each in a namespace that nobody has seen, none of them tries again.
TEST(FirstConnectsTest, OneShotClientsInNewNamespacesAllSucceed) {
  const char* wanted = std::getenv("KVEIL_NAMESPACES");
  const int count = wanted != nullptr ? std::atoi(wanted) : 40;
  constexpr int kAtOnce = 4;
  const SocketAddress address = Address("192.0.2.1", 9092);
  Cgroup node;
  Network network;
  const config::InterceptConfig config = MakeConfig(node);
  const DetachAtEnd detach{config};
  std::vector<UniqueFd> listeners;
  listeners.push_back(ListenIn(network.broker(), address));
  const EchoBroker broker(std::move(listeners));
  std::vector<std::unique_ptr<Netns>> fresh;
  for (int i = 0; i < count; ++i) {
    fresh.push_back(std::make_unique<Netns>());
    network.Join(*fresh.back(), i + 2);
  }
  TestAgent agent(config, kPatient);
  for (int first = 0; first < count; first += kAtOnce) {
    std::vector<std::unique_ptr<Workload>> clients;
    for (int i = first; i < std::min(first + kAtOnce, count); ++i) {
      clients.push_back(std::make_unique<Workload>(node, fresh[i].get(), [&] { return Dial(address); }));
    }
    for (size_t i = 0; i < clients.size(); ++i) {
      EXPECT_EQ(clients[i]->Join(), StrCat("echoed by 192.0.2.1:9092 as 192.0.2.", first + i + 2));
    }
  }
  // The look after an ended client may find the next one before it connects: then nothing is held.
  const intercept::HeldConnects counts = agent.redirect().heldConnects();
  EXPECT_GT(counts.held, static_cast<uint64_t>(count) / 2);
  EXPECT_EQ(counts.released, counts.held);
  EXPECT_EQ(broker.Clients().size(), static_cast<size_t>(count));
}

TEST_F(FirstConnectTest, EndsInATimeoutWhenNobodyServesTheNamespace) {
  const std::unique_ptr<Redirect> redirect = StartRedirect(std::chrono::milliseconds(300));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(DialInPod(broker4), "ETIMEDOUT");
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(150));
  EXPECT_EQ(redirect->heldConnects().ended, 1u);
  EXPECT_EQ(CountElements(*redirect, "interim"), 0u);
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

// The SYN is never let go because time is up: somebody else may listen there by then.
TEST_F(FirstConnectTest, WhoTakesThePortMeanwhileIsNotConnectedTo) {
  const std::unique_ptr<Redirect> redirect = StartRedirect(std::chrono::milliseconds(500));
  Workload client(pod.cgroup, &pod.netns, [this] { return Dial(broker4); });
  ASSERT_TRUE(Eventually([&] { return IsHeld(*redirect); }));
  const UniqueFd squatter = ListenIn(pod.netns, Address("127.0.0.1", config.listenPort));
  EXPECT_EQ(client.Join(), "ETIMEDOUT");
  pollfd wait = {.fd = squatter.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&wait, 1, 0), 0) << "the squatter was connected to";
}

TEST_F(FirstConnectTest, ApplicationWithASmallSynCountIsHeldAsLongAndKeepsItsCount) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  const std::string outcome = pod.Run([this]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int count = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_SYNCNT, &count, sizeof(count));
    if (::connect(fd.get(), broker4.get(), broker4.size()) != 0) return ErrnoName(errno);
    socklen_t size = sizeof(count);
    ::getsockopt(fd.get(), IPPROTO_TCP, TCP_SYNCNT, &count, &size);
    return StrCat(Exchange(fd.get()), " ", count);
  });
  EXPECT_EQ(outcome, "echoed 1");
}

TEST_F(FirstConnectTest, SocketThatGivesUpAndGoesElsewhereIsAnOrdinaryOne) {
  const std::unique_ptr<Redirect> redirect = StartRedirect(std::chrono::seconds(60));
  const std::string outcome = pod.Run([this]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    int count = 3;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_SYNCNT, &count, sizeof(count));
    ::connect(fd.get(), broker4.get(), broker4.size());
    if (errno != EINPROGRESS) return ErrnoName(errno);
    const sockaddr unspecified = {.sa_family = AF_UNSPEC, .sa_data = {}};
    ::connect(fd.get(), &unspecified, sizeof(unspecified));
    const SocketAddress other = Address("192.0.2.1", 9099);
    if (::connect(fd.get(), other.get(), other.size()) != 0 && errno != EINPROGRESS) return ErrnoName(errno);
    pollfd wait = {.fd = fd.get(), .events = POLLOUT, .revents = 0};
    ::poll(&wait, 1, 10000);
    socklen_t size = sizeof(count);
    ::getsockopt(fd.get(), IPPROTO_TCP, TCP_SYNCNT, &count, &size);
    return StrCat(Exchange(fd.get()), " by ", PeerName(fd.get()), " ", count);
  });
  EXPECT_EQ(outcome, "echoed by 192.0.2.1:9099 3");
  EXPECT_EQ(redirect->heldConnects().ended, 1u);
}

// The namespace cannot be served when the connect's event comes; nothing but the clock makes the agent try again.
TEST_F(FirstConnectTest, NamespaceThatCannotBeServedAtOnceIsTriedAgainWhileAConnectIsHeld) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  // A threaded cgroup beside it makes the agent's own an invalid one, in which no process can be started.
  const std::string threaded = node.path() + "/threaded";
  ASSERT_EQ(::mkdir(threaded.c_str(), 0755), 0);
  ASSERT_TRUE(std::ofstream(threaded + "/cgroup.type") << "threaded" << std::flush);
  Workload client(node, &pod.netns, [this] { return Dial(broker4); });
  ASSERT_TRUE(Eventually([&] { return !agent->namespaces().Health().ok(); }));
  ASSERT_EQ(::rmdir(threaded.c_str()), 0);
  EXPECT_EQ(client.Join(), kEchoed);
  EXPECT_TRUE(agent->namespaces().Health().ok()) << agent->namespaces().Health();
}

TEST_F(FirstConnectTest, HeldConnectIsServedByTheAgentThatTakesOver) {
  std::unique_ptr<Redirect> first = StartRedirect(std::chrono::seconds(8));
  Workload client(pod.cgroup, &pod.netns, [this] { return Dial(broker4); });
  ASSERT_TRUE(Eventually([&] { return IsHeld(*first); }));
  first.reset();
  agent = std::make_unique<TestAgent>(config);
  EXPECT_EQ(client.Join(), kEchoed);
  EXPECT_EQ(agent->Origins().size(), 1u);
}

TEST_F(FirstConnectTest, OtherSockopsProgramThatClearsTheFlagsMakesItARefusedOne) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  const UniqueFd rude = LoadFlagClearingProgram("rude_tool");
  AttachLegacy(rude, node, BPF_CGROUP_SOCK_OPS, BPF_F_ALLOW_MULTI);
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

// 127.0.0.1 goes by the default route where lo has never been up.
TEST_F(FirstConnectTest, NothingLeavesANamespaceWhoseLoopbackIsDown) {
  const std::unique_ptr<Redirect> redirect = StartRedirect(std::chrono::milliseconds(300));
  const std::string outcome = RunWorkload(pod.cgroup, nullptr, [this]() -> std::string {
    Require(::unshare(CLONE_NEWNET) == 0, "unshare");
    std::ofstream("/proc/sys/net/ipv6/conf/default/disable_ipv6") << 1 << std::flush;
    Shell(
        "ip link add eth0 type veth peer name eth1 && ip addr add 10.9.9.1/24 dev eth0 && ip link set eth1 up && "
        "ip link set eth0 up && ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev eth0 && "
        "ip route add default via 10.9.9.2");
    const auto sent = [] {
      std::ifstream devices("/proc/self/net/dev");
      std::string line;
      while (std::getline(devices, line)) {
        std::istringstream fields(line);
        std::string name, field;
        fields >> name;
        for (int i = 0; i < 10; ++i) fields >> field;
        if (name == "eth0:") return field;
      }
      return std::string("?");
    };
    const std::string before = sent();
    const std::string dialled = Dial(broker4);
    return StrCat(dialled, before == sent() ? "" : ", something left");
  });
  EXPECT_EQ(outcome, "EHOSTUNREACH");
}

TEST_F(FirstConnectTest, ProbeOfTheStartIsHeldAndServed) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  const absl::Status probed = agent->redirect().ProbeHold(std::chrono::seconds(20));
  EXPECT_TRUE(probed.ok()) << probed;
  EXPECT_EQ(agent->redirect().heldConnects().released, 1u);
  EXPECT_TRUE(agent->Origins().empty()) << "a probe is nobody's connection";
}

TEST_F(FirstConnectTest, ProbeThatFailsEndsTheHolding) {
  const std::unique_ptr<Redirect> redirect = StartRedirect(std::chrono::milliseconds(300));
  const absl::Status probed = redirect->ProbeHold(std::chrono::seconds(20));
  EXPECT_TRUE(absl::IsUnavailable(probed)) << probed;
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
}

TEST_F(FirstConnectTest, ProbeThatSucceedsLaterBeginsTheHoldingAgain) {
  agent = std::make_unique<TestAgent>(config, kPatient);
  EXPECT_FALSE(agent->redirect().ProbeHold(std::chrono::milliseconds(0)).ok());
  const absl::Status probed = agent->redirect().ProbeHold(std::chrono::seconds(20));
  EXPECT_TRUE(probed.ok()) << probed;
  EXPECT_EQ(DialInPod(broker4), kEchoed);
}

}  // namespace
}  // namespace kveil::nettest
