// Who may listen at the agent's port, and what becomes of those who connect to it themselves.
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>

#include <fstream>

#include "absl/strings/str_format.h"
#include "base/text.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using intercept::RefusedConnect;
using testing::ElementsAre;
using testing::HasSubstr;

class AgentsPortTest : public Stage {
 protected:
  AgentsPortTest() { StartBroker({broker4, broker6}); }
  std::string ConnectInPodFrom(const SocketAddress& own) const {
    return pod.Run([&]() -> std::string {
      const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      Require(::bind(fd.get(), own.get(), own.size()) == 0, "bind");
      return ::connect(fd.get(), broker4.get(), broker4.size()) == 0 ? "connected" : ErrnoName(errno);
    });
  }
  SocketAddress Port(const std::string& address = "127.0.0.1") const { return Address(address, config.listenPort); }
};

TEST_F(AgentsPortTest, ConnectStraightToItIsRefused) {
  StartAgent();
  for (const std::string address : {"127.0.0.1", "::ffff:127.0.0.1", "::1", "0.0.0.0", "::"}) {
    EXPECT_EQ(DialInPod(Port(address)), "ECONNREFUSED") << address;
  }
  EXPECT_EQ(agent->strangers(), 0u);
  EXPECT_THAT(agent->Origins(), ElementsAre());
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

TEST_F(AgentsPortTest, ConnectStraightToItIsRefusedAlsoWhereEveryAddressAndPortIsATarget) {
  config.targets = {MakeTarget("0.0.0.0", 0, 1, 65535), MakeTarget("::", 0, 1, 65535)};
  StartAgent();
  for (const std::string address : {"127.0.0.1", "::1"}) EXPECT_EQ(DialInPod(Port(address)), "ECONNREFUSED");
  EXPECT_EQ(agent->strangers(), 0u);
  EXPECT_THAT(agent->Origins(), ElementsAre());
}

TEST_F(AgentsPortTest, ConnectionStraightToItFromOutsideTheInterceptedCgroupIsClosed) {
  StartAgent();
  const Cgroup outside;
  for (const std::string address : {"127.0.0.1", "::1"}) {
    const std::string dialled = RunWorkload(outside, &pod.netns, [&] { return Dial(Port(address)); });
    // Whether the application's data is still there when the agent closes decides between the two.
    EXPECT_THAT(dialled, testing::AnyOf(HasSubstr("closed by "), HasSubstr("ECONNRESET by ")));
  }
  EXPECT_EQ(agent->strangers(), 2u);
  EXPECT_THAT(agent->Origins(), ElementsAre());
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

bool SomebodyListensAt(uint16_t port) {
  std::ifstream sockets("/proc/self/net/tcp");
  const std::string listening = StrCat(absl::StrFormat(":%04X", port), " 00000000:0000 0A");
  for (std::string line; std::getline(sockets, line);) {
    if (line.find(listening) != std::string::npos) return true;
  }
  return false;
}

TEST_F(AgentsPortTest, SynThatWasPutOffUntilTheAgentListensDoesNotArrive) {
  const Netns late;
  Workload workload(pod.cgroup, &late, [this] {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on));
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &on, sizeof(on));
    Require(::connect(fd.get(), Port().get(), Port().size()) == 0, "a connect that sends nothing");
    Require(Eventually([this] { return SomebodyListensAt(config.listenPort); }), "an agent");
    return ::send(fd.get(), "x", 1, MSG_NOSIGNAL) == 1 ? "sent" : ErrnoName(errno);
  });
  StartAgent();
  EXPECT_EQ(workload.Join(), "ECONNABORTED");
  EXPECT_EQ(agent->strangers(), 0u);
}

// A socket can be disconnected and connected again; what it was told to be redirected from must not stay in it.
TEST_F(AgentsPortTest, EarlierDestinationOfASocketIsNotToldToTheAgent) {
  StartAgent();
  const std::string outcome = pod.Run([this]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    if (::connect(fd.get(), broker4.get(), broker4.size()) != 0 || Exchange(fd.get()) != "echoed") return "no first";
    const sockaddr unspecified = {.sa_family = AF_UNSPEC, .sa_data = {}};
    if (::connect(fd.get(), &unspecified, sizeof(unspecified)) != 0) return "AF_UNSPEC: " + ErrnoName(errno);
    if (::connect(fd.get(), Port().get(), Port().size()) != 0) return "second: " + ErrnoName(errno);
    return "let through";
  });
  EXPECT_EQ(outcome, "second: ECONNREFUSED");
  EXPECT_EQ(agent->Origins().size(), 1u);
}

TEST_F(AgentsPortTest, SocketThatWasDisconnectedIsRedirectedAgain) {
  StartAgent();
  const std::string outcome = pod.Run([this]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    if (::connect(fd.get(), broker4.get(), broker4.size()) != 0 || Exchange(fd.get()) != "echoed") return "no first";
    const sockaddr unspecified = {.sa_family = AF_UNSPEC, .sa_data = {}};
    if (::connect(fd.get(), &unspecified, sizeof(unspecified)) != 0) return "AF_UNSPEC: " + ErrnoName(errno);
    if (::connect(fd.get(), broker4.get(), broker4.size()) != 0) return "second: " + ErrnoName(errno);
    return Describe(fd.get());
  });
  EXPECT_EQ(outcome, "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_EQ(agent->Origins().size(), 2u);
}

// The program that listens there first would read everything in the clear.
TEST_F(AgentsPortTest, SquatterIsNotGivenConnections) {
  const UniqueFd squatter4 = ListenIn(pod.netns, Port());
  const UniqueFd squatter6 = ListenIn(pod.netns, Port("::1"));
  auto redirect = Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  for (const SocketAddress& address : {broker4, broker6}) {
    EXPECT_EQ(DialInPod(address), "ECONNREFUSED");
    const std::vector<RefusedConnect> events = EventsOf(**redirect);
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].reason, RefusedConnect::Reason::kForeignListener);
    EXPECT_EQ(events[0].family, address.family());
  }
  pollfd waits[2] = {{.fd = squatter4.get(), .events = POLLIN, .revents = 0},
                     {.fd = squatter6.get(), .events = POLLIN, .revents = 0}};
  EXPECT_EQ(::poll(waits, 2, 0), 0) << "a squatter was connected to";
  EXPECT_THAT(broker->Clients(), ElementsAre());
}

TEST_F(AgentsPortTest, NamespaceWithASquatterIsServedAtAnotherPort) {
  const UniqueFd squatter4 = ListenIn(pod.netns, Port());
  const UniqueFd squatter6 = ListenIn(pod.netns, Port("::1"));
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_EQ(DialInPod(broker6), "echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2");
  EXPECT_EQ(agent->Origins().size(), 2u);
  EXPECT_TRUE(agent->namespaces().Health().ok()) << agent->namespaces().Health();
  EXPECT_TRUE(agent->namespaces().WorkloadsNotServed().ok()) << agent->namespaces().WorkloadsNotServed();
  pollfd waits[2] = {{.fd = squatter4.get(), .events = POLLIN, .revents = 0},
                     {.fd = squatter6.get(), .events = POLLIN, .revents = 0}};
  EXPECT_EQ(::poll(waits, 2, 0), 0) << "a squatter was connected to";
}

// As an unprivileged process of the host's network does, that takes the port between two agents.
TEST_F(AgentsPortTest, AgentWhosePortWasTakenInItsOwnNamespaceStartsAndServes) {
  StartAgent();
  agent.reset();
  const UniqueFd squatter = ListenHere(Port());
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  const absl::Status probed = agent->redirect().Probe(std::chrono::seconds(20));
  EXPECT_TRUE(probed.ok()) << probed;
}

TEST_F(AgentsPortTest, NamespaceWhoseEphemeralPortsAreAllTakenIsServedAtSomeOther) {
  const UniqueFd squatter = ListenIn(pod.netns, Port());
  std::vector<UniqueFd> others;
  for (const uint16_t port : {40000, 40001}) others.push_back(ListenIn(pod.netns, Address("127.0.0.1", port)));
  Shell(StrCat("nsenter --net=/proc/", pod.netns.holder(),
               "/ns/net sysctl -qw net.ipv4.ip_local_port_range='40000 40001'"));
  StartAgent();
  EXPECT_EQ(ConnectInPodFrom(Address("0.0.0.0", 30005)), "connected");
}

// As an unprivileged process may in the host's network: it binds every port of 127.0.0.1 that it can.
std::string TakePorts(int first, int last) {
  rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  for (int port = first; port <= last; ++port) {
    for (const char* address : {"127.0.0.1", "::1"}) {
      const SocketAddress own = Address(address, static_cast<uint16_t>(port));
      const int fd = ::socket(own.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);  // it stays open
      if (fd < 0) return "no socket: " + ErrnoName(errno);
      if (::bind(fd, own.get(), own.size()) < 0 && errno != EADDRINUSE) return ErrnoName(errno);
    }
  }
  return PauseForEver();
}

TEST_F(AgentsPortTest, NamespaceWhoseUnprivilegedPortsAreAllTakenIsServedAtAReservedOne) {
  constexpr int kFirst = 1024, kEnd = 65536, kProcesses = 8;  // each within a small limit of descriptors
  constexpr int kShare = (kEnd - kFirst) / kProcesses;
  std::vector<std::unique_ptr<Workload>> greedy;
  const auto last = [](int process) { return kFirst + (process + 1) * kShare - 1; };
  for (int i = 0; i < kProcesses; ++i) {
    greedy.push_back(std::make_unique<Workload>(
        pod.cgroup, &pod.netns, [&, i] { return TakePorts(last(i) - kShare + 1, last(i)); }, kNobody));
  }
  for (int i = 0; i < kProcesses; ++i) {
    const SocketAddress own = Address("::1", static_cast<uint16_t>(last(i)));
    int bound = 0;
    ASSERT_TRUE(Eventually(
        [&] {
          const UniqueFd fd = pod.netns.Socket(AF_INET6, SOCK_STREAM);
          bound = ::bind(fd.get(), own.get(), own.size()) < 0 ? errno : 0;
          return bound == EADDRINUSE;
        },
        std::chrono::seconds(60)))
        << "process " << i << ": " << ErrnoName(bound);
  }
  StartAgent();
  EXPECT_TRUE(agent->namespaces().WorkloadsNotServed().ok()) << agent->namespaces().WorkloadsNotServed();
  // The client has no port of its own left, so it brings one.
  EXPECT_EQ(ConnectInPodFrom(Address("192.0.2.2", 900)), "connected");
}

TEST_F(AgentsPortTest, SameSocketMayConnectAfterItWasRefused) {
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{.holdTime = std::chrono::milliseconds(0)});
  const Netns late;
  const std::string outcome = RunWorkload(pod.cgroup, &late, []() -> std::string {
    const SocketAddress target = Address("192.0.2.1", 9092);
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    if (::connect(fd.get(), target.get(), target.size()) == 0) return "not refused";
    const bool connected =
        Eventually([&] { return ::connect(fd.get(), target.get(), target.size()) == 0 || errno != ECONNREFUSED; });
    return connected ? PeerName(fd.get()) : ErrnoName(errno);
  });
  EXPECT_EQ(outcome, "192.0.2.1:9092");
}

}  // namespace
}  // namespace kveil::nettest
