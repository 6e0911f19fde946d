// Every way in which an application can connect a TCP socket, each once with an agent and once without.
#include <liburing.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <ostream>

#include "support/pinned_maps.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::ElementsAre;

UniqueFd Socket(int family, int flags = 0, int protocol = 0) {
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, protocol));
  Require(fd.valid(), "a socket");
  return fd;
}

// What an application sees after a connect that ended with `error`.
std::string Outcome(const UniqueFd& fd, int error) { return error == 0 ? Describe(fd.get()) : ErrnoName(error); }

int ConnectNow(const UniqueFd& fd, const SocketAddress& address) {
  return ::connect(fd.get(), address.get(), address.size()) == 0 ? 0 : errno;
}

int PendingError(const UniqueFd& fd) {
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

std::string Blocking(const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family());
  return Outcome(fd, ConnectNow(fd, address));
}

std::string NonBlocking(const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family(), SOCK_NONBLOCK);
  int error = ConnectNow(fd, address);
  if (error == EINPROGRESS) {
    pollfd wait = {.fd = fd.get(), .events = POLLOUT, .revents = 0};
    error = ::poll(&wait, 1, 10000) == 1 ? PendingError(fd) : ETIMEDOUT;
  }
  return Outcome(fd, error);
}

std::string IoUring(const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family());
  io_uring ring;
  Require(::io_uring_queue_init(4, &ring, 0) == 0, "a ring");
  ::io_uring_prep_connect(::io_uring_get_sqe(&ring), fd.get(), const_cast<sockaddr*>(address.get()), address.size());
  io_uring_cqe* completion = nullptr;
  Require(::io_uring_submit(&ring) == 1 && ::io_uring_wait_cqe(&ring, &completion) == 0, "a completion");
  return Outcome(fd, -completion->res);
}

std::string FastOpenConnect(const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family());
  const int on = 1;
  Require(::setsockopt(fd.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)) == 0, "TCP_FASTOPEN_CONNECT");
  return Outcome(fd, ConnectNow(fd, address));
}

std::string FastOpenSend(const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family());
  const ssize_t sent =
      ::sendto(fd.get(), kMessage.data(), kMessage.size(), MSG_FASTOPEN, address.get(), address.size());
  if (sent < 0) return ErrnoName(errno);
  const std::string early = AwaitEcho(fd.get());
  return early == "echoed" ? Describe(fd.get()) : "early data: " + early;
}

std::string BoundTo(const SocketAddress& own, const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family());
  Require(::bind(fd.get(), own.get(), own.size()) == 0, "bind");
  return Outcome(fd, ConnectNow(fd, address));
}

std::string BoundToPort(const SocketAddress& address) { return BoundTo(Address("0.0.0.0", 30001), address); }
std::string BoundToOwnAddress(const SocketAddress& address) { return BoundTo(Address("192.0.2.2", 30002), address); }

std::string BoundToDevice(const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family());
  Require(::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "eth0", sizeof("eth0")) == 0, "SO_BINDTODEVICE");
  return Outcome(fd, ConnectNow(fd, address));
}

std::string Mptcp(const SocketAddress& address) {
  const UniqueFd fd = Socket(address.family(), 0, IPPROTO_MPTCP);
  return Outcome(fd, ConnectNow(fd, address));
}

struct Kind {
  const char* name;
  std::string (*dial)(const SocketAddress&);
  // What the application asks for and sees, and what the broker and the agent see of it.
  const char* address = "192.0.2.1";
  const char* seen = "echoed by 192.0.2.1:9092 as 192.0.2.2";
  const char* destination = "192.0.2.1:9092";
  const char* client = "192.0.2.2";
  // Whether its SYN can be held: it has no room for that beside the options of multipath TCP or a fast open cookie.
  bool isHeld = true;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

constexpr Kind kKinds[] = {
    {"Blocking", Blocking},
    {"NonBlocking", NonBlocking},
    {"IoUring", IoUring},
    {.name = "FastOpenConnect", .dial = FastOpenConnect, .isHeld = false},
    {.name = "FastOpenSend", .dial = FastOpenSend, .isHeld = false},
    {"BoundToPort", BoundToPort},
    {.name = "BoundToOwnAddress", .dial = BoundToOwnAddress, .isHeld = false},
    {"BoundToDevice", BoundToDevice},
    {.name = "Mptcp", .dial = Mptcp, .isHeld = false},
    {"Ipv6", Blocking, "2001:db8:77::1", "echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2", "[2001:db8:77::1]:9092",
     "2001:db8:77::2"},
    {"Ipv6NonBlocking", NonBlocking, "2001:db8:77::1", "echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2",
     "[2001:db8:77::1]:9092", "2001:db8:77::2"},
    {"Ipv6Mptcp", Mptcp, "2001:db8:77::1", "echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2", "[2001:db8:77::1]:9092",
     "2001:db8:77::2", false},
    {"V4Mapped", Blocking, "::ffff:192.0.2.1", "echoed by [::ffff:192.0.2.1]:9092 as ::ffff:192.0.2.2"},
};

class ConnectKindsTest : public Stage, public testing::WithParamInterface<Kind> {
 protected:
  ConnectKindsTest() { StartBroker({broker4, broker6}); }
  std::string DialAsParam() const {
    return pod.Run([] { return GetParam().dial(Address(GetParam().address, 9092)); });
  }
};

TEST_P(ConnectKindsTest, ArrivesAtTheAgentAndSeesTheBroker) {
  StartAgent();
  EXPECT_EQ(DialAsParam(), GetParam().seen);
  ASSERT_EQ(agent->Origins().size(), 1u);
  EXPECT_EQ(agent->LastOrigin().destination.Text(), GetParam().destination);
  EXPECT_EQ(agent->LastOrigin().netnsCookie, pod.netns.cookie());
  EXPECT_THAT(broker->Clients(), ElementsAre(GetParam().client));
  EXPECT_EQ(agent->strangers(), 0u);
  EXPECT_EQ(CountElements(agent->redirect(), "interim"), 0u);
}

TEST_P(ConnectKindsTest, FirstInANewNamespaceSucceedsOrIsRefused) {
  pod.End();  // nobody lives there until the connect
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{.holdTime = std::chrono::seconds(8)});
  EXPECT_EQ(DialAsParam(), GetParam().isHeld ? GetParam().seen : "ECONNREFUSED");
  EXPECT_EQ(agent->Origins().size(), GetParam().isHeld ? 1u : 0u);
  EXPECT_EQ(broker->Clients().size(), agent->Origins().size());
}

TEST_P(ConnectKindsTest, IsRefusedWhereNobodyServesAndSucceedsWhenTriedAgain) {
  auto redirect = Redirect::Start(config, {.holdTime = std::chrono::milliseconds(0)});
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  EXPECT_EQ(DialAsParam(), "ECONNREFUSED");
  const std::vector<intercept::RefusedConnect> events = EventsOf(**redirect);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].reason, intercept::RefusedConnect::Reason::kNoListener);
  EXPECT_EQ(events[0].destination.Text(), GetParam().destination);
  EXPECT_EQ(events[0].netnsCookie, pod.netns.cookie());
  EXPECT_EQ(events[0].cgroupId, pod.cgroup.id());
  EXPECT_THAT(broker->Clients(), ElementsAre());

  redirect->reset();
  StartAgent();
  EXPECT_EQ(DialAsParam(), GetParam().seen);
}

INSTANTIATE_TEST_SUITE_P(Every, ConnectKindsTest, testing::ValuesIn(kKinds),
                         [](const testing::TestParamInfo<Kind>& info) { return std::string(info.param.name); });

class BoundDeviceTest : public Stage {
 protected:
  BoundDeviceTest() { StartBroker({broker4, Address("192.0.2.1", 9999)}); }
};

TEST_F(BoundDeviceTest, AgentIsToldTheDeviceThatTheApplicationHadChosen) {
  StartAgent();
  const std::string index = pod.Run([] { return std::to_string(::if_nametoindex("eth0")); });
  EXPECT_EQ(pod.Run([this] { return BoundToDevice(broker4); }), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_EQ(std::to_string(agent->LastOrigin().boundDevice), index);
}

// Whether the kernel lets such a socket be moved to lo differs; that it must not go out in the clear does not.
TEST_F(BoundDeviceTest, ApplicationWithoutCapabilitiesNeverReachesTheBrokerDirectly) {
  StartAgent();
  const std::string outcome = pod.Run([this] { return BoundToDevice(broker4); }, 1234);
  EXPECT_THAT(outcome, testing::AnyOf("echoed by 192.0.2.1:9092 as 192.0.2.2", "ECONNREFUSED"));
  EXPECT_EQ(broker->Clients().size(), agent->Origins().size());
}

TEST_F(BoundDeviceTest, SocketIsBackAtItsDeviceWhenItGoesSomewhereElse) {
  StartAgent();
  const std::string device = pod.Run([this]() -> std::string {
    const UniqueFd fd = Socket(AF_INET);
    Require(::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "eth0", sizeof("eth0")) == 0, "SO_BINDTODEVICE");
    if (ConnectNow(fd, broker4) != 0) return "not redirected";
    const sockaddr unspecified = {.sa_family = AF_UNSPEC, .sa_data = {}};
    ::connect(fd.get(), &unspecified, sizeof(unspecified));
    if (const int error = ConnectNow(fd, Address("192.0.2.1", 9999)); error != 0) return ErrnoName(error);
    char name[IF_NAMESIZE] = {};
    socklen_t size = sizeof(name);
    ::getsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, name, &size);
    return name;
  });
  EXPECT_EQ(device, "eth0");
}

}  // namespace
}  // namespace kveil::nettest
