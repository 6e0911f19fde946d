// Many namespaces: at once, and one after the other without a trace.
#include <dirent.h>

#include <iterator>
#include <map>
#include <memory>

#include "base/text.h"
#include "support/network.h"
#include "support/pinned_maps.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

class ManyNamespacesTest : public testing::Test {
 protected:
  ManyNamespacesTest() { broker.emplace(Listener(9092)); }

  std::vector<UniqueFd> Listener(uint16_t port) const {
    std::vector<UniqueFd> listeners;
    listeners.push_back(ListenIn(network.broker(), Address("192.0.2.1", port)));
    return listeners;
  }

  const SocketAddress broker4 = Address("192.0.2.1", 9092);
  Cgroup node;
  Network network;
  config::InterceptConfig config = MakeConfig(node);
  DetachAtEnd detach{config};
  std::optional<EchoBroker> broker;
};

constexpr std::chrono::seconds kPatience(60);

size_t CountDescriptors() {
  size_t count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  while (::readdir(directory)) ++count;
  ::closedir(directory);
  return count;
}

TEST_F(ManyNamespacesTest, FiftyAtOnceEachWithClientsSeeAndAreSeenAsThemselves) {
  constexpr int kPods = 50, kClients = 4;
  std::vector<std::unique_ptr<Pod>> pods;
  for (int i = 0; i < kPods / 2; ++i) {
    pods.push_back(std::make_unique<Pod>(node, StrCat("pod", i)));
    network.Join(pods.back()->netns, i + 2);
  }
  TestAgent agent(config);  // half of them are there before the agent
  for (int i = kPods / 2; i < kPods; ++i) {
    pods.push_back(std::make_unique<Pod>(node, StrCat("pod", i)));
    network.Join(pods.back()->netns, i + 2);
  }
  std::vector<std::unique_ptr<Workload>> clients;
  for (const auto& pod : pods) {
    for (int i = 0; i < kClients; ++i) {
      clients.push_back(std::make_unique<Workload>(pod->cgroup, &pod->netns, [this]() -> std::string {
        std::string outcome;
        // Every client tries again, when it was refused or when the network of its pod is just coming up.
        Eventually([&] { return (outcome = Dial(broker4)).find("echoed") == 0; }, kPatience);
        return outcome;
      }));
    }
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    EXPECT_EQ(clients[i]->Join(), StrCat("echoed by 192.0.2.1:9092 as 192.0.2.", i / kClients + 2));
  }
  std::map<uint64_t, std::pair<uint64_t, int>> byNamespace;  // cookie to cgroup and count
  for (const identity::Origin& origin : agent.Origins()) {
    auto& [cgroup, count] = byNamespace[origin.netnsCookie];
    cgroup = origin.cgroupId;
    ++count;
  }
  EXPECT_EQ(byNamespace.size(), size_t{kPods});
  for (const auto& pod : pods) {
    const auto& [cgroup, count] = byNamespace[pod->netns.cookie()];
    EXPECT_EQ(cgroup, pod->cgroup.id());
    EXPECT_GE(count, kClients);
  }
  std::map<std::string, int> seen;
  for (const std::string& client : broker->Clients()) ++seen[client];
  EXPECT_EQ(seen.size(), size_t{kPods});
  for (const auto& [client, count] : seen) EXPECT_GE(count, kClients) << client;
  EXPECT_TRUE(agent.namespaces().Health().ok()) << agent.namespaces().Health();
  EXPECT_TRUE(agent.namespaces().WorkloadsNotServed().ok()) << agent.namespaces().WorkloadsNotServed();
}

// What a connection is doing when its workload ends, and the broker's port for it.
struct Ending {
  const char* name;
  uint16_t port;
  bool exchanges = true;
  bool leavesUnread = false;
};

constexpr Ending kEndings[] = {
    {.name = "open", .port = 9092},
    {.name = "open, with an answer unread", .port = 9092, .leavesUnread = true},
    {.name = "half-closed, the broker stays", .port = 9093},
    {.name = "half-closed by the broker", .port = 9094},
    {.name = "not connected upstream", .port = 9097, .exchanges = false},  // SYNs are answered by nobody
};

// One connection that comes as far as its ending wants; the first one may be refused, or fail in a network that is just
// coming up.
std::string ConnectAndLeave(const Ending& ending) {
  const SocketAddress address = Address(ending.port == 9097 ? "192.0.2.250" : "192.0.2.1", ending.port);
  UniqueFd fd;
  std::string outcome;
  const bool connected = Eventually([&] {
    fd = UniqueFd(::socket(AF_INET, SOCK_STREAM, 0));
    if (::connect(fd.get(), address.get(), address.size()) != 0) {
      outcome = ErrnoName(errno);
      return false;
    }
    return !ending.exchanges || (outcome = Exchange(fd.get())) == "echoed";
  });
  if (!connected) return outcome;
  if (ending.leavesUnread) (void)!::send(fd.get(), "unread", 6, MSG_NOSIGNAL);
  return "left";
}

TEST_F(ManyNamespacesTest, TwoHundredInTurnLeaveNothingBehindHoweverTheirConnectionsEnded) {
  constexpr size_t kRounds = 200;
  config.targets[0].ports[0].last = 9097;
  EchoBroker stubborn(Listener(9093), Manner::kStubborn);
  EchoBroker halfCloses(Listener(9094), Manner::kHalfCloses);
  TestAgent agent(config);
  const size_t descriptors = CountDescriptors();
  const size_t sources = CountElements(agent.redirect(), "sources");  // of the agent's own namespace
  for (size_t round = 0; round < kRounds; ++round) {
    const Ending& ending = kEndings[round % std::size(kEndings)];
    const Pod pod(node, "pod");
    network.Join(pod.netns, static_cast<int>(round) + 2);
    ASSERT_EQ(pod.Run([&] { return ConnectAndLeave(ending); }), "left") << ending.name;
  }
  // The kernel ends namespaces in the background.
  EXPECT_TRUE(Eventually([&] { return network.Joined() == 0; }, kPatience)) << network.Joined() << " still exist";
  EXPECT_TRUE(Eventually([&] { return agent.namespaces().Status().size() == 1; }, kPatience));
  EXPECT_EQ(agent.released(), kRounds);
  EXPECT_EQ(agent.strangers(), 0u) << "connections without an origin";
  EXPECT_EQ(agent.open(), 0u);
  EXPECT_EQ(CountElements(agent.redirect(), "served"), 1u) << "the agent's own";
  EXPECT_EQ(CountElements(agent.redirect(), "sources"), sources);
  EXPECT_EQ(CountElements(agent.redirect(), "interim"), 0u);
  // The brokers' ends are descriptors of this program, too, and the stubborn one keeps its own.
  EXPECT_TRUE(Eventually([&] { return broker->open() + halfCloses.open() == 0; }, kPatience));
  EXPECT_EQ(CountDescriptors(), descriptors + stubborn.open());
}

}  // namespace
}  // namespace kveil::nettest
