// What connects while an agent restarts waits for the next one, if a service manager keeps the listeners.
#include "base/text.h"
#include "support/pinned_maps.h"
#include "support/stage.h"

#include <fcntl.h>
#include <poll.h>

#include <map>
#include <mutex>

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::IsEmpty;
using testing::SizeIs;

// A service manager's store, which outlives the agents.
class Store : public DescriptorStore {
 public:
  bool Keep(const std::string& name, int fd) override {
    const std::lock_guard lock(mutex_);
    return kept_.try_emplace(name, UniqueFd(Duplicate(fd))).second;
  }
  void Forget(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    kept_.erase(name);
  }
  std::vector<KeptDescriptor> TakeKept() override {
    const std::lock_guard lock(mutex_);
    std::vector<KeptDescriptor> kept;
    for (const auto& [name, fd] : kept_) kept.push_back({name, UniqueFd(Duplicate(fd.get()))});
    return kept;
  }

  // Names that contain this.
  std::vector<std::string> Names(const std::string& part) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, fd] : kept_) {
      if (name.find(part) != std::string::npos) names.push_back(name);
    }
    return names;
  }
  bool IsConnectedTo(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    pollfd wait = {.fd = kept_.at(name).get(), .events = POLLIN, .revents = 0};
    return ::poll(&wait, 1, 0) == 1;
  }

 private:
  static int Duplicate(int fd) { return ::fcntl(fd, F_DUPFD_CLOEXEC, 0); }

  mutable std::mutex mutex_;
  std::map<std::string, UniqueFd> kept_;
};

class KeptListenersTest : public Stage {
 protected:
  KeptListenersTest() { StartBroker({broker4, broker6}); }
  void StartKeeping() {
    intercept::Namespaces::Options options = kNeverCompare;
    options.store = &store;
    agent = std::make_unique<TestAgent>(config, intercept::RedirectOptions{}, options);
  }
  std::string InPod() const { return StrCat("-", pod.netns.cookie(), "-"); }
  std::string NameInPod(int family) const { return store.Names(StrCat(InPod(), family)).at(0); }

  Store store;
};

TEST_F(KeptListenersTest, AConnectBetweenTwoAgentsWaitsForTheNext) {
  StartKeeping();
  for (int round = 0; round < 3; ++round) {
    for (const auto& [address, family] : {std::pair(broker4, AF_INET), std::pair(broker6, AF_INET6)}) {
      EXPECT_THAT(DialInPod(address), testing::StartsWith("echoed by "));
      agent.reset();
      Workload client(pod.cgroup, &pod.netns, [address = address] { return Dial(address); });
      const std::string listener = NameInPod(family);
      ASSERT_TRUE(Eventually([&] { return store.IsConnectedTo(listener); }));
      StartKeeping();
      EXPECT_EQ(client.Join(),
                StrCat("echoed by ", address.Text(), " as ", family == AF_INET ? "192.0.2.2" : "2001:db8:77::2"));
      EXPECT_EQ(agent->LastOrigin().destination, address);
      EXPECT_EQ(agent->strangers(), 0u);
    }
  }
  EXPECT_THAT(store.Names(InPod()), SizeIs(2));
}

TEST_F(KeptListenersTest, WithoutAStoreItIsRefusedAsBefore) {
  StartAgent();
  agent.reset();
  EXPECT_EQ(DialInPod(broker4), "ECONNREFUSED");
}

TEST_F(KeptListenersTest, WhatWasKeptOfANamespaceThatHasEndedIsForgotten) {
  StartKeeping();
  agent.reset();
  EXPECT_THAT(store.Names(InPod()), SizeIs(2));
  pod.End();
  StartKeeping();
  EXPECT_THAT(store.Names(InPod()), IsEmpty());
}

TEST_F(KeptListenersTest, WhatIsKeptEndsWithTheNamespace) {
  StartKeeping();
  EXPECT_THAT(store.Names(InPod()), SizeIs(2));
  pod.End();
  EXPECT_TRUE(Eventually([&] { return store.Names(InPod()).empty(); }));
}

// The connections of another cgroup's listener would pass by the programs, and the maps may have been lost.
TEST_F(KeptListenersTest, WhatCannotBeUsedIsForgottenAndMadeAnew) {
  const UniqueFd stranger = ListenIn(pod.netns, Address("127.0.0.1", 7777));
  const UniqueFd datagrams = pod.netns.Socket(AF_INET, SOCK_DGRAM);
  const std::string here = StrCat("listener-", node.id());
  store.Keep(StrCat(here, InPod(), AF_INET), stranger.get());
  store.Keep(StrCat(here, InPod(), AF_INET6), datagrams.get());
  store.Keep(StrCat("listener-1", InPod(), AF_INET), stranger.get());
  store.Keep("something", stranger.get());
  StartKeeping();
  EXPECT_EQ(DialInPod(broker4), kEchoed);
  EXPECT_THAT(store.Names(""), SizeIs(4)) << "two in the pod, two in the agent's own namespace";
  agent.reset();
  Workload client(pod.cgroup, &pod.netns, [this] { return Dial(broker4); });
  ASSERT_TRUE(Eventually([&] { return store.IsConnectedTo(NameInPod(AF_INET)); }));
  ASSERT_TRUE(Redirect::Detach(config).ok());  // with the pins, the maps go
  StartKeeping();
  EXPECT_NE(client.Join(), kEchoed) << "nobody knows where it was going";
  EXPECT_EQ(DialInPod(broker4), kEchoed);
}

// A socket that is bound to an address of its own would leave by the default route.
TEST_F(KeptListenersTest, WithoutLoopbackNobodyIsRedirectedToWhatWasKept) {
  StartKeeping();
  EXPECT_EQ(CountElements(agent->redirect(), "listening"), 4u);
  agent.reset();
  pod.netns.Ip("link set lo down");
  StartKeeping();
  EXPECT_EQ(CountElements(agent->redirect(), "listening"), 2u) << "in the agent's own namespace";
  agent.reset();
  pod.netns.Ip("link set lo up");
  StartKeeping();
  EXPECT_EQ(DialInPod(broker4), kEchoed);
  EXPECT_THAT(store.Names(InPod()), SizeIs(2));
}

}  // namespace
}  // namespace kveil::nettest
