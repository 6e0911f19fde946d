// What the hooks must leave alone.
#include <poll.h>
#include <sys/syscall.h>

#include "support/stage.h"

namespace kveil::nettest {
namespace {

using testing::ElementsAre;

class UntouchedTest : public Stage {
 protected:
  UntouchedTest() {
    StartBroker({broker4, broker6, Address("192.0.2.1", 9095)});
    StartAgent();
  }
  void ExpectDirect() {
    EXPECT_THAT(agent->Origins(), ElementsAre());
    EXPECT_EQ(agent->strangers(), 0u);
  }
};

TEST_F(UntouchedTest, ConnectToAnotherPortOfTheBrokerIsDirect) {
  EXPECT_EQ(DialInPod(Address("192.0.2.1", 9095)), "echoed by 192.0.2.1:9095 as 192.0.2.2");
  EXPECT_THAT(broker->Clients(), ElementsAre("192.0.2.2"));
  ExpectDirect();
}

TEST_F(UntouchedTest, RefusalByTheOtherEndStaysARefusal) {
  EXPECT_EQ(DialInPod(Address("192.0.2.1", 9096)), "ECONNREFUSED");
  ExpectDirect();
}

TEST_F(UntouchedTest, ConnectFromOutsideOfTheCgroupIsDirect) {
  const Cgroup elsewhere;
  EXPECT_EQ(RunWorkload(elsewhere, &pod.netns, [this] { return Dial(broker4); }),
            "echoed by 192.0.2.1:9092 as 192.0.2.2");
  ExpectDirect();
}

TEST_F(UntouchedTest, UdpToATargetsAddressAndPortIsDirect) {
  for (const SocketAddress& target : {broker4, broker6}) {
    const UniqueFd receiver = brokerNode.Socket(target.family(), SOCK_DGRAM);
    ASSERT_EQ(::bind(receiver.get(), target.get(), target.size()), 0);
    const std::string peer = pod.Run([&target]() -> std::string {
      const UniqueFd fd(::socket(target.family(), SOCK_DGRAM, 0));
      if (::connect(fd.get(), target.get(), target.size()) != 0) return ErrnoName(errno);
      if (::send(fd.get(), "x", 1, 0) != 1) return ErrnoName(errno);
      return PeerName(fd.get());
    });
    EXPECT_EQ(peer, target.Text());
    pollfd wait = {.fd = receiver.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&wait, 1, 10000), 1) << "the datagram did not arrive";
  }
  ExpectDirect();
}

// Takes a socket of another process, which stays one of that process's cgroup.
UniqueFd TakeSocket(const Workload& owner, int number) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, owner.pid(), 0)));
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
}

TEST_F(UntouchedTest, SocketThatTheAgentTaggedIsNotRedirected) {
  constexpr int kNumber = 100;
  const Workload owner(pod.cgroup, &pod.netns, [] {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    Require(::dup2(fd.get(), kNumber) == kNumber, "dup2");
    return PauseForEver();
  });
  UniqueFd fd;
  ASSERT_TRUE(Eventually([&] { return (fd = TakeSocket(owner, kNumber)).valid(); }));
  ASSERT_TRUE(agent->redirect().TagAsOwn(fd.get()).ok());
  ASSERT_EQ(::connect(fd.get(), broker4.get(), broker4.size()), 0) << ErrnoName(errno);
  EXPECT_EQ(Exchange(fd.get()), "echoed");
  EXPECT_THAT(broker->Clients(), ElementsAre("192.0.2.2"));
  ExpectDirect();
}

// Any container with CAP_NET_RAW can set a mark.
TEST_F(UntouchedTest, MarkDoesNotMakeASocketTheAgents) {
  const std::string outcome = pod.Run([this]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
    const uint32_t mark = 1;
    Require(::setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0, "SO_MARK");
    return ::connect(fd.get(), broker4.get(), broker4.size()) == 0 ? Describe(fd.get()) : ErrnoName(errno);
  });
  EXPECT_EQ(outcome, "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_EQ(agent->Origins().size(), 1u);
}

}  // namespace
}  // namespace kveil::nettest
