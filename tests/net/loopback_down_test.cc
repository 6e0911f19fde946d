// A namespace that was served and whose lo then goes down or loses its address: 127.0.0.1 is routed by the default
// route there.
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <ostream>

#include "support/stage.h"

namespace kveil::nettest {
namespace {

using testing::HasSubstr;

struct Way {
  const char* name;
  const char* down;  // for `ip`
  const char* up;
  const char* says;
};

constexpr Way kDown = {"LinkDown", "link set lo down", "link set lo up", "lo is down"};
constexpr Way kBare = {"AddressRemoved", "addr del 127.0.0.1/8 dev lo", "addr add 127.0.0.1/8 dev lo",
                       "127.0.0.1 is not there"};

struct Client {
  const char* name;
  const char* broker;
  const char* bound;          // where the application has bound its socket before, or nullptr
  bool hasDataInSyn = false;  // TCP Fast Open
};

constexpr Client kV4 = {"V4", "192.0.2.1", nullptr};
constexpr Client kBoundV4 = {"V4FromItsOwnAddress", "192.0.2.1", "192.0.2.2"};
constexpr Client kFastV4 = {"V4WithDataInItsSyn", "192.0.2.1", nullptr, true};
constexpr Client kV6 = {"V6", "2001:db8:77::1", nullptr};
constexpr Client kBoundV6 = {"V6FromItsOwnAddress", "2001:db8:77::1", "2001:db8:77::2"};

struct Case {
  Way way;
  Client client;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.way.name << one.client.name; }

// Connects, and says what came of it.
std::string DialAs(const Client& client) {
  const SocketAddress broker = Address(client.broker, 9092);
  const UniqueFd fd(::socket(broker.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit = {.tv_sec = 2, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (client.bound != nullptr) {
    const SocketAddress own = Address(client.bound, 0);
    Require(::bind(fd.get(), own.get(), own.size()) == 0, "bind");
  }
  if (client.hasDataInSyn) {
    const ssize_t sent =
        ::sendto(fd.get(), kMessage.data(), kMessage.size(), MSG_FASTOPEN | MSG_NOSIGNAL, broker.get(), broker.size());
    if (sent <= 0) return ErrnoName(errno);
    pollfd wait = {.fd = fd.get(), .events = POLLIN, .revents = 0};
    return ::poll(&wait, 1, 2000) == 1 ? AwaitEcho(fd.get()) : "no answer";
  }
  if (::connect(fd.get(), broker.get(), broker.size()) != 0) return ErrnoName(errno);
  return Exchange(fd.get());
}

class NeverUpTest : public Stage {
 protected:
  std::string NotServed() const { return std::string(agent->namespaces().WorkloadsNotServed().message()); }
};

class LoopbackDownTest : public NeverUpTest, public testing::WithParamInterface<Case> {
 protected:
  LoopbackDownTest() {
    StartBroker({broker4, broker6});
    pod.netns.Ip("route add default via 192.0.2.1");
    pod.netns.Ip("-6 route add default via 2001:db8:77::1");
    Shell("nsenter --net=/proc/" + std::to_string(pod.netns.holder()) +
          "/ns/net sysctl -qw net.ipv4.tcp_fastopen=5");  // data in the first SYN, without a cookie
    wire = brokerNode.Socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, htons(ETH_P_ALL));
  }

  // SYNs that came to the broker's namespace so far: what an exchange before ends with may still be on its way. Packets
  // keep their order, so it waits for one of its own.
  size_t CountSyns() {
    constexpr uint16_t kMarkerPort = 9;
    (void)pod.Run([]() -> std::string {
      const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      const SocketAddress broker = Address("192.0.2.1", kMarkerPort);
      return ::sendto(fd.get(), "", 0, 0, broker.get(), broker.size()) == 0 ? "" : ErrnoName(errno);
    });
    size_t count = 0;
    bool hasMarker = false;
    Require(Eventually([&] {
              std::array<uint8_t, 128> packet = {};
              sockaddr_ll from = {};
              socklen_t size = sizeof(from);
              while (::recvfrom(wire.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&from),
                                &size) > 0) {
                const bool isV4 = from.sll_protocol == htons(ETH_P_IP);
                if (!isV4 && from.sll_protocol != htons(ETH_P_IPV6)) continue;
                const uint8_t protocol = isV4 ? packet[9] : packet[6];
                const size_t transport = isV4 ? size_t{4} * (packet[0] & 15) : 40;
                if (protocol == IPPROTO_TCP && (packet[transport + 13] & TH_SYN) != 0) ++count;
                if (isV4 && protocol == IPPROTO_UDP && packet[23] == kMarkerPort) hasMarker = true;
              }
              return hasMarker;
            }),
            "the marker's arrival");
    return count;
  }

  UniqueFd wire;
};

TEST_P(LoopbackDownTest, NothingLeavesAndStatusSaysSoUntilItIsUpAgain) {
  const auto& [way, client] = GetParam();
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{}, kCompareOften);
  ASSERT_TRUE(agent->IsServed(pod.netns.cookie()));
  ASSERT_EQ(pod.Run([&] { return DialAs(client); }), "echoed");
  EXPECT_EQ(NotServed(), "");
  pod.netns.Ip(way.down);
  ASSERT_GT(CountSyns(), 0u) << "of the exchange before";
  // Of a socket that is bound to another address the kernel half alone cannot say where its SYN goes.
  if (client.bound == nullptr) {
    // Or the agent has seen it already.
    EXPECT_THAT(pod.Run([&] { return DialAs(client); }),
                testing::AnyOf("EHOSTUNREACH", "EINPROGRESS", "no answer", "ECONNREFUSED"));
    EXPECT_EQ(CountSyns(), 0u) << "something left the namespace";
  }
  EXPECT_TRUE(Eventually([&] { return NotServed().find(way.says) != std::string::npos; })) << NotServed();
  EXPECT_EQ(pod.Run([&] { return DialAs(client); }), "ECONNREFUSED");
  EXPECT_EQ(CountSyns(), 0u) << "something left the namespace";
  EXPECT_TRUE(agent->namespaces().Health().ok()) << "it is this workload's matter: " << agent->namespaces().Health();
  pod.netns.Ip(way.up);
  EXPECT_TRUE(Eventually([&] { return NotServed().empty(); })) << NotServed();
  EXPECT_TRUE(Eventually([&] { return pod.Run([&] { return DialAs(client); }) == "echoed"; }));
}

INSTANTIATE_TEST_SUITE_P(Cases, LoopbackDownTest,
                         testing::Values(Case{kDown, kV4}, Case{kDown, kBoundV4}, Case{kDown, kV6},
                                         Case{kDown, kBoundV6}, Case{kBare, kV4}, Case{kBare, kBoundV4},
                                         Case{kBare, kFastV4}),
                         [](const auto& info) { return std::string(info.param.way.name) + info.param.client.name; });

// Without any address yet, a socket can be bound to 127.0.0.1 there, which does not make it reachable.
TEST_F(NeverUpTest, IsNotServedUntilItIsUp) {
  const uint64_t here = intercept::NamespaceInode(intercept::NamespaceFile(::getpid()));
  const Workload workload(node, nullptr, []() -> std::string {
    Require(::unshare(CLONE_NEWNET) == 0, "unshare");
    return PauseForEver();
  });
  ASSERT_TRUE(Eventually([&] { return intercept::NamespaceInode(intercept::NamespaceFile(workload.pid())) != here; }));
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{}, kCompareOften);
  EXPECT_THAT(NotServed(), HasSubstr("lo is down")) << "at the first look";
  Shell("nsenter --net=/proc/" + std::to_string(workload.pid()) + "/ns/net ip link set lo up");
  EXPECT_TRUE(Eventually([&] { return NotServed().empty(); })) << NotServed();
}

}  // namespace
}  // namespace kveil::nettest
