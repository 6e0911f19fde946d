// What one hostile workload can take from the others: entries of the shared tables, events, the agent's time.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>

#include "base/text.h"
#include "intercept.h"
#include "support/half_open.h"
#include "support/pinned_maps.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Connects between being let through and being counted, and those of the victims.
constexpr int kAtTheSameTime = 10;

// One process that does whatever an unprivileged process may, at random, for `duration`.
std::string Misbehave(uint32_t seed, std::chrono::milliseconds duration, const std::vector<SocketAddress>& brokers,
                      uint16_t agentPort) {
  std::mt19937 random(seed);
  AllowManyDescriptors();
  std::vector<UniqueFd> held;
  const auto end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) {
    const SocketAddress& broker = brokers[random() % brokers.size()];
    switch (random() % 9) {
      case 0: {  // goes away at once
        const UniqueFd fd = BeginHalfOpen(broker);
        break;
      }
      case 1: {  // straight to the agent's port
        const SocketAddress direct = Address(broker.family() == AF_INET ? "127.0.0.1" : "::1", agentPort);
        held.push_back(BeginHalfOpen(direct));
        break;
      }
      case 2: {  // completes and stays
        UniqueFd fd(::socket(broker.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        (void)!::connect(fd.get(), broker.get(), broker.size());
        if (held.size() < 200) held.push_back(std::move(fd));
        break;
      }
      case 3:  // closes some of what it has
        for (size_t i = 0; i < 20 && !held.empty(); ++i) held.erase(held.begin() + random() % held.size());
        break;
      case 4: {  // disconnects and connects anew
        if (held.empty()) break;
        const sockaddr nowhere = {.sa_family = AF_UNSPEC, .sa_data = {}};
        const int fd = held[random() % held.size()].get();
        (void)!::connect(fd, &nowhere, sizeof(nowhere));
        (void)!::connect(fd, broker.get(), broker.size());
        break;
      }
      case 5: {  // many at once that nothing was asked for when they connected
        const size_t first = held.size();
        for (size_t i = 0; i < 3000 && held.size() < 15000; ++i) held.push_back(PrepareHalfOpen(broker));
        for (size_t i = first; i < held.size(); ++i) (void)!::send(held[i].get(), "x", 1, MSG_NOSIGNAL);
        break;
      }
      default:
        for (size_t i = 0; i < 50 && held.size() < 15000; ++i) held.push_back(BeginHalfOpen(broker));
    }
  }
  return "over";
}

class SharesTest : public Stage {
 protected:
  SharesTest() { StartBroker({broker4, broker6}); }
  size_t Waiting() const { return CountElements(agent->redirect(), "interim"); }
  int64_t Counted() const { return SumOfWaiting(agent->redirect()); }
};

TEST_F(SharesTest, HalfOpenConnectsBeyondAWorkloadsShareAreRefusedAndSoNamed) {
  StartAgent();
  const Cgroup hostile(node, "hostile");  // in the namespace of the pod, as processes of the host's network are
  constexpr size_t kMany = KVEIL_MAX_WAITING + 1000;
  Workload workload(
      hostile, &pod.netns, [&] { return HoldHalfOpen(broker4, kMany); }, kNobody);
  EXPECT_TRUE(Eventually([&] { return !agent->namespaces().SharesHealth().ok(); }));
  EXPECT_THAT(std::string(agent->namespaces().SharesHealth().message()),
              AllOf(HasSubstr(StrCat("network namespace ", pod.netns.cookie())), HasSubstr("user 65534"),
                    HasSubstr(StrCat("cgroup ", hostile.id()))));
  EXPECT_TRUE(agent->namespaces().Health().ok()) << "the others are served";
  EXPECT_EQ(Waiting(), size_t{KVEIL_MAX_WAITING});
  EXPECT_EQ(Counted(), int64_t{KVEIL_MAX_WAITING});
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2") << "another workload of that namespace";
  workload.Kill();
  EXPECT_TRUE(Eventually([this] { return Waiting() == 0 && Counted() == 0; }));
  const std::string again = RunWorkload(
      hostile, &pod.netns, [this] { return Dial(broker4); }, kNobody);
  EXPECT_EQ(again, "echoed by 192.0.2.1:9092 as 192.0.2.2");
}

// All of them connect before the first SYN leaves.
TEST_F(SharesTest, SynsThatLeaveWithTheFirstSendAreCountedToo) {
  StartAgent();
  const Cgroup hostile(node, "hostile");
  constexpr size_t kMany = KVEIL_MAX_WAITING + 3000;
  const Workload workload(
      hostile, &pod.netns,
      [&] {
        AllowManyDescriptors();
        std::vector<UniqueFd> held;
        while (held.size() < kMany) held.push_back(PrepareHalfOpen(broker4));
        for (const UniqueFd& fd : held) (void)!::send(fd.get(), "x", 1, MSG_NOSIGNAL);
        return PauseForEver();
      },
      kNobody);
  EXPECT_TRUE(Eventually([&] { return !agent->namespaces().SharesHealth().ok(); }));
  EXPECT_THAT(std::string(agent->namespaces().SharesHealth().message()),
              HasSubstr("connects that it does not complete"));
  EXPECT_EQ(Waiting(), size_t{KVEIL_MAX_WAITING});
  EXPECT_EQ(Counted(), int64_t{KVEIL_MAX_WAITING});
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2") << "another workload of that namespace";
}

TEST_F(SharesTest, WhatIsNotAcceptedForLongIsTakenOut) {
  StartAgent({.heartbeatTimeout = std::chrono::milliseconds(250), .longestWait = std::chrono::seconds(1)});
  const Workload workload(
      pod.cgroup, &pod.netns, [&] { return HoldHalfOpen(broker4, 300); }, kNobody);
  EXPECT_TRUE(Eventually([this] { return Waiting() == 300; }));
  EXPECT_TRUE(Eventually([this] { return Waiting() == 0 && Counted() == 0; })) << "while the sockets are still there";
}

TEST_F(SharesTest, CountsThatAKilledAgentLeftWrongAreRightAfterTheNextStart) {
  StartAgent();
  agent.reset();
  const UniqueFd shares = PinnedMap(config.pinDirectory, "shares");
  for (const uint32_t slot : {uint32_t{7}, uint32_t{KVEIL_SHARES + 7}}) {
    const kveil_share share = {.waiting = KVEIL_MAX_WAITING, .second = 0, .events = 0, .reported = 0};
    ASSERT_EQ(::bpf_map_update_elem(shares.get(), &slot, &share, BPF_ANY), 0);
  }
  StartAgent();
  EXPECT_EQ(Counted(), 0);
}

// Whoever meets the agent's own cgroup in a slot must not make the node not ready.
TEST_F(SharesTest, ProbesArriveThoughEverySlotIsUsedUp) {
  StartAgent();
  const UniqueFd shares = PinnedMap(config.pinDirectory, "shares");
  const auto second =
      static_cast<uint32_t>(std::chrono::steady_clock::now().time_since_epoch() / std::chrono::seconds(1));
  for (uint32_t slot = 0; slot < KVEIL_SHARES + KVEIL_TOP_SHARES; ++slot) {
    const kveil_share share = {
        .waiting = KVEIL_MAX_TOP_WAITING, .second = second, .events = KVEIL_MAX_EVENTS, .reported = 0};
    ASSERT_EQ(::bpf_map_update_elem(shares.get(), &slot, &share, BPF_ANY), 0);
  }
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  const absl::Status probed = agent->redirect().Probe(std::chrono::seconds(20));
  EXPECT_TRUE(probed.ok()) << probed;
  const absl::Status held = agent->redirect().ProbeHold(std::chrono::seconds(20));
  EXPECT_TRUE(held.ok()) << held;
}

// Whoever could tell them in advance could have a cgroup that meets a victim's.
TEST_F(SharesTest, SlotsAreOthersWithEachStart) {
  const Cgroup one(node, "one"), two(node, "two"), three(node, "three");
  const auto slots = [&] {
    auto redirect = intercept::Redirect::Start(config, {.holdTime = std::chrono::milliseconds(0)});
    Require(redirect.ok(), "a start");
    std::vector<uint32_t> found;
    for (int round = 0; round < 2; ++round) {
      for (const Cgroup* cgroup : {&one, &two, &three}) {
        EXPECT_EQ(RunWorkload(*cgroup, &pod.netns, [this] { return Dial(broker4); }), "ECONNREFUSED");
      }
    }
    for (const intercept::RefusedConnect& refused : EventsOf(**redirect)) found.push_back(refused.share);
    return found;
  };
  const std::vector<uint32_t> before = slots(), after = slots();
  ASSERT_EQ(before.size(), 6u);
  EXPECT_EQ(std::vector(before.begin(), before.begin() + 3), std::vector(before.begin() + 3, before.end()));
  EXPECT_NE(before, after);
}

TEST_F(SharesTest, OthersConnectWhileOneWorkloadDoesItsWorst) {
  StartAgent();
  const auto duration = Slowed(std::chrono::seconds(4));
  const Cgroup hostile(node, "hostile");
  const Pod other(node, "other");
  const auto seed = static_cast<uint32_t>(std::random_device()());
  RecordProperty("seed", static_cast<int>(seed));
  SCOPED_TRACE(StrCat("seed ", seed));
  std::vector<std::unique_ptr<Workload>> workloads;
  for (uint32_t i = 0; i < 3; ++i) {
    workloads.push_back(std::make_unique<Workload>(
        hostile, &pod.netns,
        [&, i] {
          return Misbehave(seed + i, duration, {broker4, broker6}, config.listenPort);
        },
        kNobody));
  }
  std::map<std::string, int> outcomes;
  int64_t most = 0;
  std::atomic<bool> running{true};
  std::thread victims([&] {
    while (running) {
      ++outcomes[DialInPod(broker4)];
      ++outcomes[DialInPod(broker6)];
    }
  });
  const auto end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) {
    most = std::max(most, Counted());
    EXPECT_LE(Waiting(), size_t{KVEIL_MAX_WAITING} + kAtTheSameTime);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  running = false;
  victims.join();
  for (const auto& workload : workloads) EXPECT_EQ(workload->Join(), "over");
  EXPECT_EQ(outcomes.size(), 2u) << testing::PrintToString(outcomes);
  EXPECT_GT(outcomes["echoed by 192.0.2.1:9092 as 192.0.2.2"], 5) << testing::PrintToString(outcomes);
  EXPECT_GT(outcomes["echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2"], 5) << testing::PrintToString(outcomes);
  EXPECT_GT(most, int64_t{KVEIL_MAX_WAITING} / 2) << "too tame to say anything";
  EXPECT_LE(most, int64_t{KVEIL_MAX_WAITING} + kAtTheSameTime);
  EXPECT_TRUE(Eventually([this] { return Waiting() == 0; }));
  EXPECT_EQ(Counted(), 0) << "a count that drifts takes a workload's share away for good, or gives it more";
}

TEST_F(SharesTest, ConnectsStraightToTheAgentsPortTakeNoPlaceAmongThoseThatWait) {
  StartAgent();
  const Cgroup hostile(node, "hostile");
  constexpr int kMany = 10000;
  Workload workload(
      hostile, &pod.netns,
      [this] {
        AllowManyDescriptors();
        std::vector<UniqueFd> held;
        int refused = 0;
        for (const std::string address : {"127.0.0.1", "::1"}) {
          for (int i = 0; i < kMany / 2; ++i) {
            held.push_back(BeginHalfOpen(Address(address, config.listenPort)));
            refused += errno == ECONNREFUSED;
          }
        }
        return StrCat(refused);
      },
      kNobody);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
    EXPECT_EQ(DialInPod(broker6), "echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2");
  }
  EXPECT_EQ(workload.Join(), StrCat(kMany));
  EXPECT_EQ(agent->strangers(), 0u);
}

// An agent that learns of a namespace from the first connect there must hear of it.
TEST_F(SharesTest, ManyRefusedConnectsOfOneWorkloadLeaveRoomForTheEventsOfOthers) {
  auto redirect = intercept::Redirect::Start(config, {.holdTime = std::chrono::milliseconds(0)});
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  const auto start = std::chrono::steady_clock::now();
  const Cgroup hostile(node, "hostile");
  const std::string flood = RunWorkload(
      hostile, &pod.netns,
      [this] {
        const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
        for (int i = 0; i < 20000; ++i) (void)!::connect(fd.get(), broker4.get(), broker4.size());
        return std::string("over");
      },
      kNobody);
  ASSERT_EQ(flood, "over");
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(std::chrono::steady_clock::now() - start).count();
  std::map<uint64_t, int64_t> events;
  for (const intercept::RefusedConnect& refused : EventsOf(**redirect)) ++events[refused.cgroupId];
  EXPECT_EQ(events[pod.cgroup.id()], 1);
  EXPECT_GE(events[hostile.id()], 1);
  EXPECT_LE(events[hostile.id()], (seconds + 1) * (KVEIL_MAX_EVENTS + 2));
}

TEST_F(SharesTest, UserWithManyNamespacesHasSomeServedAndTheOthersAllOfTheirs) {
  constexpr size_t kServed = 64;
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{}, kCompareOften);
  const size_t before = agent->namespaces().Status().size();
  const Cgroup hostile(node, "hostile");
  Workload workload(
      hostile, nullptr, [] { return MakeNamespaces(kServed + 10); }, kNobody);
  const auto isCrowded = [&] {
    return agent->namespaces().SharesHealth().message().find("network namespaces, as many") != std::string::npos;
  };
  ASSERT_TRUE(Eventually(isCrowded));
  EXPECT_THAT(std::string(agent->namespaces().SharesHealth().message()),
              AllOf(HasSubstr("user 65534 has more than 64 network namespaces"), HasSubstr("are refused")));
  EXPECT_EQ(agent->namespaces().Status().size(), before + kServed);
  const Pod late(node, "late");
  EXPECT_TRUE(Eventually([&] { return agent->IsServed(late.netns.cookie()); }));
  workload.Kill();
  EXPECT_TRUE(Eventually([&] { return !isCrowded(); })) << "there is room again";
}

// Root of a container has as many users as it likes, without any right to make namespaces itself.
TEST_F(SharesTest, ManyUsersOfOneWorkloadHaveNoMoreNamespacesServedThanOneHas) {
  constexpr size_t kServed = 64;
  agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{}, kCompareOften);
  const size_t before = agent->namespaces().Status().size();
  const Cgroup hostile(node, "hostile");
  const Workload workload(hostile, nullptr, [] { return MakeNamespaces(kServed + 36, 4); });
  ASSERT_TRUE(Eventually([&] {
    return agent->namespaces().SharesHealth().message().find("network namespaces, as many") != std::string::npos;
  }));
  EXPECT_THAT(std::string(agent->namespaces().SharesHealth().message()),
              AllOf(HasSubstr("cgroup /"), HasSubstr("has more than 64 network namespaces")));
  std::this_thread::sleep_for(std::chrono::seconds(1));  // comparisons that could serve more
  EXPECT_EQ(agent->namespaces().Status().size(), before + kServed);
}

std::chrono::microseconds ProcessorTime() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return std::chrono::seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         std::chrono::microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// Sockets that were left in a namespace where no process lives: each of their connects makes the agent look for one.
TEST_F(SharesTest, ConnectsFromANamespaceWithoutProcessesTakeLittleOfTheAgentsTime) {
  StartAgent();
  std::vector<std::unique_ptr<Cgroup>> many;  // what a comparison walks through
  for (int i = 0; i < 200; ++i) many.push_back(std::make_unique<Cgroup>(node, StrCat("idle", i)));
  const Netns elsewhere;
  const std::string file = intercept::NamespaceFile(elsewhere.holder());
  const auto start = ProcessorTime();
  const std::string made = RunWorkload(pod.cgroup, &pod.netns, [&]() -> std::string {
    AllowManyDescriptors();
    const UniqueFd home(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    const UniqueFd there(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    std::vector<UniqueFd> left;
    Require(::setns(there.get(), CLONE_NEWNET) == 0, "setns");
    while (left.size() < 2000) left.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    Require(::setns(home.get(), CLONE_NEWNET) == 0, "setns");
    for (const UniqueFd& fd : left) {
      (void)!::connect(fd.get(), broker4.get(), broker4.size());
      ::usleep(1000);
    }
    return "over";
  });
  EXPECT_EQ(made, "over");
  EXPECT_LT(ProcessorTime() - start, std::chrono::milliseconds(600)) << "for two thousand connects in two seconds";
}

// Whoever makes cgroups makes each comparison longer; that must not make it the only thing that the agent does.
TEST_F(SharesTest, ManyCgroupsTakeLittleOfTheAgentsTime) {
  std::vector<std::unique_ptr<Cgroup>> many;
  for (int i = 0; i < 4000; ++i) many.push_back(std::make_unique<Cgroup>(node, StrCat("idle", i)));
  agent =
      std::make_unique<TestAgent>(config, intercept::RedirectOptions{},
                                  intercept::Namespaces::Options{.reconcileInterval = std::chrono::milliseconds(5)});
  const auto start = ProcessorTime();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  EXPECT_LT(ProcessorTime() - start, std::chrono::milliseconds(800)) << "for two seconds";
}

// One process, each thread of which has a namespace of its own and connects there again and again.
std::string ConnectFromThreads(size_t count, const SocketAddress& address, std::chrono::milliseconds duration) {
  Require(::unshare(CLONE_NEWUSER) == 0, "a user namespace");
  const auto end = std::chrono::steady_clock::now() + duration;
  std::vector<std::thread> threads;
  while (threads.size() < count) {
    threads.emplace_back([&] {
      Require(::unshare(CLONE_NEWNET) == 0, "a network namespace");
      while (std::chrono::steady_clock::now() < end) {
        const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        (void)!::connect(fd.get(), address.get(), address.size());
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return "over";
}

TEST_F(SharesTest, ThreadsWithManyNamespacesTakeLittleOfTheAgentsTimeAndOthersAreServed) {
  StartAgent();
  const Cgroup hostile(node, "hostile");
  const auto start = ProcessorTime();
  Workload workload(
      hostile, nullptr, [this] { return ConnectFromThreads(400, broker4, std::chrono::seconds(6)); }, kNobody);
  std::this_thread::sleep_for(std::chrono::seconds(3));
  const Pod late(node, "late");
  const std::string dialled = late.Run([this] { return Dial(broker4); });
  EXPECT_TRUE(agent->IsServed(late.netns.cookie())) << dialled;
  EXPECT_EQ(workload.Join(), "over");
  EXPECT_LT(ProcessorTime() - start, std::chrono::milliseconds(1500)) << "for six seconds";
}

// With the processes that the agent forks.
std::chrono::microseconds ProcessorTimeWithChildren() {
  rusage usage = {};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  return ProcessorTime() + std::chrono::seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         std::chrono::microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// Memory in small pages, as an agent has it whose caches are full: each fork copies what says where they are.
class Ballast {
 public:
  Ballast() : memory_(::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    Require(memory_ != MAP_FAILED && ::madvise(memory_, kSize, MADV_NOHUGEPAGE) == 0, "memory");
    std::memset(memory_, 1, kSize);
  }
  ~Ballast() { ::munmap(memory_, kSize); }
  Ballast(const Ballast&) = delete;
  Ballast& operator=(const Ballast&) = delete;

 private:
  static constexpr size_t kSize = 256 << 20;
  void* const memory_;
};

UniqueFd BeginConnect(const SocketAddress& address) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  (void)!::connect(fd.get(), address.get(), address.size());
  return fd;
}

// Of four seconds: a burst and an eleventh, some of it twice, as the forked processes' own, and what is not serving.
constexpr std::chrono::milliseconds kLittle(1200);

// No listener can be made on ::1 there, however often that is tried.
[[noreturn]] void ConnectWhereIpv6IsOff(const SocketAddress& address) {
  const UniqueFd off(::open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", O_WRONLY | O_CLOEXEC));
  Require(::write(off.get(), "1", 1) == 1, "disable_ipv6");
  for (;;) {
    (void)BeginConnect(address);
    ::usleep(50'000);
  }
}

TEST_F(SharesTest, ConnectsThatCannotBeServedTakeLittleOfTheAgentsTimeAndOthersAreServed) {
  StartAgent();
  const Cgroup hostile(node, "hostile");
  const Ballast ballast;
  const auto start = ProcessorTimeWithChildren();
  const Workload workload(
      hostile, nullptr, [this] { return MakeNamespaces(60, 0, [this] { ConnectWhereIpv6IsOff(broker6); }); }, kNobody);
  std::this_thread::sleep_for(std::chrono::seconds(4));
  EXPECT_LT(ProcessorTimeWithChildren() - start, kLittle) << "for four seconds";
  const Pod late(node, "late");
  const std::string dialled = late.Run([this] { return Dial(broker6); });
  EXPECT_TRUE(agent->IsServed(late.netns.cookie())) << dialled;
  EXPECT_THAT(std::string(agent->namespaces().SharesHealth().message()),
              AllOf(HasSubstr("/hostile"), HasSubstr("more of the agent's time")));
  EXPECT_TRUE(agent->namespaces().Health().ok()) << agent->namespaces().Health();
}

// Each lives long enough to be served.
std::string MakeNamespacesInTurn(const SocketAddress& address) {
  for (;;) {
    if (::fork() == 0) {
      (void)MakeNamespaces(1, 0, [&] {
        const UniqueFd fd = BeginConnect(address);
        ::usleep(30'000);
        ::kill(::getppid(), SIGKILL);
      });
    }
    (void)::wait(nullptr);
  }
}

TEST_F(SharesTest, NamespacesThatComeAndGoTakeLittleOfTheAgentsTimeAndOthersAreServed) {
  StartAgent();
  const Cgroup hostile(node, "hostile");
  const Ballast ballast;
  const auto start = ProcessorTimeWithChildren();
  std::vector<std::unique_ptr<Workload>> workloads;
  for (int i = 0; i < 8; ++i) {
    workloads.push_back(std::make_unique<Workload>(
        hostile, nullptr, [this] { return MakeNamespacesInTurn(broker4); }, kNobody));
  }
  std::this_thread::sleep_for(std::chrono::seconds(4));
  EXPECT_LT(ProcessorTimeWithChildren() - start, kLittle / 2) << "for four seconds";
  const Pod late(node, "late");
  const std::string dialled = late.Run([this] { return Dial(broker4); });
  EXPECT_TRUE(agent->IsServed(late.netns.cookie())) << dialled;
}

TEST_F(SharesTest, ManyTargetsTakeNoEntryEachOfWhatGetsocknameShows) {
  pod.netns.Ip("addr add 192.0.2.9/32 dev eth0");
  pod.netns.Ip("route add 198.51.100.0/24 via 192.0.2.1 src 192.0.2.9");
  brokerNode.Ip("addr add 198.51.100.1/32 dev lo");
  const SocketAddress far = Address("198.51.100.1", 9092);
  const EchoBroker distant([&] {
    std::vector<UniqueFd> listeners;
    listeners.push_back(ListenIn(brokerNode, far));
    return listeners;
  }());
  config.targets.push_back(MakeTarget("198.51.100.0", 24, 9092, 9092));
  for (int i = 0; i < 700; ++i) {
    config.targets.push_back(MakeTarget(StrCat("192.0.2.", 10 + i % 200), 32, static_cast<uint16_t>(10000 + i),
                                        static_cast<uint16_t>(10000 + i)));
  }
  StartAgent();
  EXPECT_LE(CountElements(agent->redirect(), "sources"), 10u);  // of two namespaces
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_EQ(DialInPod(far), "echoed by 198.51.100.1:9092 as 192.0.2.9");
  EXPECT_EQ(DialInPod(broker6), "echoed by [2001:db8:77::1]:9092 as 2001:db8:77::2");
}

}  // namespace
}  // namespace kveil::nettest
