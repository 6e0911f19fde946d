// The worker threads together: who is taken in, who is turned away, and how a namespace or all of them are let go.
#include "proxy/server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <variant>

#include "connection_fixture.h"
#include "identity/claims.h"
#include "peers.h"

namespace kveil::proxy {
namespace {

using kafka::ApiKey;

std::string Request(int32_t id) { return RequestFrameOf(ApiKey::kListOffsets, id, "request"); }

// What a connection gets here: a plain socket to the test's broker, and the interceptors that a test wants.
class FakeSetup : public ConnectionSetup {
 public:
  absl::StatusOr<ConnectionInfo> Identify(int) override {
    if (!identified.ok()) return identified;
    ConnectionInfo info;
    info.origin.destination = broker;
    info.origin.netnsCookie = cookie;
    info.workload.share = StrCat("/workload", cookie.load());
    return info;
  }
  bool IsWhole(ConnectionInfo& info) override {
    ++looks;
    if (isKnown) info.workload.podUid = "known";
    return isKnown;
  }
  std::variant<ConnectionParts, Refusal> SetUp(const ConnectionInfo& info, size_t worker, io::Loop&) override {
    if (refused.has_value()) return *refused;
    {
      std::lock_guard<std::mutex> lock(mutex);
      pods.push_back(info.workload.podUid);
      workers.insert(worker);
      ids.insert(info.id);
    }
    ConnectionParts parts;
    parts.upstream = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (makeInfo) makeInfo(info);
    if (makeInterceptor) parts.interceptors.push_back(makeInterceptor());
    return parts;
  }

  SocketAddress broker;
  std::atomic<uint64_t> cookie{0};
  absl::Status identified;
  std::optional<Refusal> refused;
  std::function<std::unique_ptr<Interceptor>()> makeInterceptor;
  std::function<void(const ConnectionInfo&)> makeInfo;  // what is known of it beside
  std::mutex mutex;
  std::atomic<bool> isKnown{true};
  std::atomic<int> looks{0};
  std::vector<std::string> pods;  // of the connections that were set up
  std::set<size_t> workers;
  std::set<uint64_t> ids;
};

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    ::alarm(120);  // a hang is a failure, not a wait
    brokerListener_ = io::Listen(64, &setup_.broker);
    options_.workers = 2;
    options_.receiveBuffers = 4;
    options_.drainTimeout = std::chrono::seconds(10);
    hooks_.tick = [this](size_t) { ++ticks_; };
    hooks_.released = [this](uint64_t cookie) {
      std::lock_guard<std::mutex> lock(mutex_);
      released_.push_back(cookie);
    };
  }
  ~ServerTest() override {
    server_.reset();
    ::alarm(0);
  }

  void Start() {
    auto started = Server::Start(options_, setup_, hooks_, metrics_);
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }
  // Listens for a namespace; returns where.
  SocketAddress Serve(uint64_t cookie) {
    SocketAddress address;
    std::vector<UniqueFd> listeners;
    listeners.push_back(io::Listen(16, &address));
    server_->Serve(cookie, std::move(listeners));
    return address;
  }

  struct Both {
    Peer application;
    Peer broker;
  };
  static Peer Connect(const SocketAddress& address) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), address.get(), address.size()), 0) << std::strerror(errno);
    return Peer(std::move(fd));
  }
  Both OpenThrough(const SocketAddress& address, uint64_t cookie = 0) {
    setup_.cookie = cookie;
    Both both;
    both.application = Connect(address);
    both.broker = Peer(UniqueFd(::accept4(brokerListener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
    return both;
  }
  static void ExpectServed(Both& both, int32_t id = 1) {
    both.application.Send(Request(id));
    EXPECT_EQ(both.broker.ReceiveFrame(), Request(id));
    both.broker.Send(ResponseFrameOf(id, "answer"));
    EXPECT_EQ(both.application.ReceiveFrame(), ResponseFrameOf(id, "answer"));
  }
  static bool IsRefused(const SocketAddress& address) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return ::connect(fd.get(), address.get(), address.size()) != 0 && errno == ECONNREFUSED;
  }
  template <typename Condition>
  static bool Eventually(Condition condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      ::usleep(5000);
    }
    return false;
  }
  std::vector<uint64_t> Released() {
    std::lock_guard<std::mutex> lock(mutex_);
    return released_;
  }
  bool Ended(const char* result) {
    const std::string line = StrCat("kveil_connections_closed_total{result=\"", result, "\"} 1\n");
    return Eventually([&] { return metrics_.Text().find(line) != std::string::npos; });
  }

  FakeSetup setup_;
  UniqueFd brokerListener_;
  Server::Options options_;
  Server::Hooks hooks_;
  std::atomic<int> ticks_{0};
  std::mutex mutex_;
  std::vector<uint64_t> released_;
  observe::Metrics metrics_{"test"};
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, SpreadsConnectionsOverItsWorkers) {
  Start();
  const SocketAddress address = Serve(1);
  std::vector<Both> open;
  for (int i = 0; i < 4; ++i) open.push_back(OpenThrough(address, 1));
  for (Both& both : open) ExpectServed(both);
  EXPECT_EQ(server_->connectionCount(), 4u);
  std::lock_guard<std::mutex> lock(setup_.mutex);
  EXPECT_EQ(setup_.workers, (std::set<size_t>{0, 1}));
  EXPECT_EQ(setup_.ids, (std::set<uint64_t>{1, 2, 3, 4}));
}

TEST_F(ServerTest, ForgetsConnectionsThatHaveEnded) {
  Start();
  const SocketAddress address = Serve(1);
  {
    Both both = OpenThrough(address, 1);
    ExpectServed(both);
  }
  EXPECT_TRUE(Eventually([this] { return server_->connectionCount() == 0; }));
  EXPECT_EQ(metrics_.totals().connectionsOpen, 0u);
}

TEST_F(ServerTest, TurnsAwayWhatIsBeyondTheLimit) {
  options_.connections = 2;
  Start();
  const SocketAddress address = Serve(1);
  Both first = OpenThrough(address, 1);
  Both second = OpenThrough(address, 1);
  ExpectServed(first);
  ExpectServed(second);
  Peer third = Connect(address);
  EXPECT_EQ(third.HowItEnded(), "by a reset");
  EXPECT_TRUE(Ended("limit"));
  ExpectServed(first, 2);
  second.application.Close();
  second.broker.Close();
  ASSERT_TRUE(Eventually([this] { return server_->connectionCount() == 1; }));
  Both fourth = OpenThrough(address, 1);
  ExpectServed(fourth);
}

TEST_F(ServerTest, OneWorkloadLeavesConnectionsToTheOthers) {
  options_.connections = 20;
  Start();
  const SocketAddress address = Serve(1);
  std::vector<Both> open;
  for (int i = 0; i < 16; ++i) open.push_back(OpenThrough(address, 1));
  for (Both& both : open) ExpectServed(both);
  EXPECT_EQ(Connect(address).HowItEnded(), "by a reset");
  EXPECT_TRUE(Ended("limit"));
  for (uint64_t other : {2, 3}) {
    open.push_back(OpenThrough(address, other));
    ExpectServed(open.back());
  }
}

TEST_F(ServerTest, SaysWhichWorkerIsStuck) {
  const auto isStuck = std::make_shared<std::atomic<bool>>(false);  // the workers tick for longer than this test's body
  hooks_.tick = [isStuck](size_t worker) {
    while (worker == 1 && *isStuck) ::usleep(1000);
  };
  Start();
  constexpr std::chrono::milliseconds kLimit{100};
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(server_->CheckWorkers(std::chrono::seconds(10)).ok());
    ::usleep(10'000);
  }
  *isStuck = true;
  EXPECT_TRUE(Eventually([&] { return !server_->CheckWorkers(kLimit).ok(); }));
  EXPECT_EQ(server_->CheckWorkers(kLimit).message().substr(0, 9), "worker 1 ") << server_->CheckWorkers(kLimit);
  *isStuck = false;
  EXPECT_TRUE(Eventually([&] { return server_->CheckWorkers(kLimit).ok(); }));
}

TEST_F(ServerTest, ResetsAConnectionWhoseOriginIsNotKnown) {
  setup_.identified = absl::NotFoundError("not redirected");
  Start();
  Peer stranger = Connect(Serve(1));
  EXPECT_EQ(stranger.HowItEnded(), "by a reset");
  EXPECT_TRUE(Ended("no_origin"));
}

TEST_F(ServerTest, ClosesTheAgentsOwnProbeWithoutAWord) {
  setup_.identified = absl::CancelledError("the probe");
  Start();
  Peer probe = Connect(Serve(1));
  EXPECT_EQ(probe.HowItEnded(), "in order");
  EXPECT_EQ(metrics_.Text().find("_closed_total{result=\"no_origin\"} 1"), std::string::npos);
}

TEST_F(ServerTest, ResetsAConnectionThatGetsNoSocketToItsBroker) {
  setup_.refused = {observe::ConnectionResult::kBrokerUnreachable, "the namespace is gone"};
  Start();
  Peer application = Connect(Serve(1));
  EXPECT_EQ(application.HowItEnded(), "by a reset");
  EXPECT_TRUE(Ended("broker_unreachable"));
  EXPECT_TRUE(Eventually([this] { return server_->connectionCount() == 0; }));
}

// What `kveil connections` asks for.
class ConnectionListTest : public ServerTest {
 protected:
  // Connections of workloads 1, 1 and 2; each has relayed more than the one before.
  void OpenThree() {
    Start();
    const SocketAddress address = Serve(1);
    for (const uint64_t cookie : {1, 1, 2}) {
      open_.push_back(OpenThrough(address, cookie));
      for (size_t i = 0; i < open_.size(); ++i) ExpectServed(open_.back(), static_cast<int32_t>(i));
    }
    // Bytes count when they have left, which may be after they have come.
    EXPECT_TRUE(Eventually([this] {
      const ConnectionList list = List({});
      return std::all_of(list.connections.begin(), list.connections.end(), [](const ConnectionReport& report) {
        return report.responseBytes % ResponseFrameOf(1, "answer").size() == 0 && report.responseBytes > 0 &&
               report.requestBytes / Request(1).size() == report.responseBytes / ResponseFrameOf(1, "answer").size();
      });
    }));
  }
  ConnectionList List(const ConnectionQuery& query) {
    return server_->ListConnections(query, std::chrono::seconds(20));
  }
  static std::vector<uint64_t> IdsOf(const ConnectionList& list) {
    std::vector<uint64_t> ids;
    for (const ConnectionReport& report : list.connections) ids.push_back(report.id);
    return ids;
  }
  using Ids = std::vector<uint64_t>;

  std::vector<Both> open_;
};

TEST_F(ConnectionListTest, HasTheBusiestOfAllWorkersFirst) {
  OpenThree();
  const ConnectionList list = List({});
  EXPECT_EQ(IdsOf(list), Ids({3, 2, 1}));
  EXPECT_EQ(list.total, 3u);
  EXPECT_EQ(list.fitting, 3u);
  EXPECT_EQ(list.silentWorkers, 0u);
  const ConnectionReport& busiest = list.connections.front();
  EXPECT_EQ(busiest.requestBytes, 3 * Request(1).size());
  EXPECT_EQ(busiest.responseBytes, 3 * ResponseFrameOf(1, "answer").size());
  EXPECT_EQ(busiest.share, "/workload2");
  EXPECT_EQ(busiest.broker, setup_.broker.Text());
  EXPECT_EQ(busiest.clientTls, "none");
  const ConnectionList one = List({.most = 1});
  EXPECT_EQ(IdsOf(one), Ids({3}));
  EXPECT_EQ(one.fitting, 3u);
}

TEST_F(ConnectionListTest, HasThoseThatFitOnly) {
  OpenThree();
  EXPECT_EQ(IdsOf(List({.workload = "load1"})), Ids({2, 1}));
  EXPECT_EQ(List({.workload = "load1"}).total, 3u);
  EXPECT_EQ(IdsOf(List({.workload = "load3"})), Ids());
  EXPECT_EQ(IdsOf(List({.cluster = "main"})), Ids());
}

TEST_F(ConnectionListTest, TellsWhatIsKnownOfTheClientAndItsRecords) {
  setup_.makeInterceptor = [] { return std::make_unique<FakeInterceptor>(std::vector<ApiKey>{ApiKey::kListOffsets}); };
  setup_.makeInfo = [](const ConnectionInfo& info) {
    info.tally->principal = std::string(1000, 'p');
    info.tally->records = {.sealed = 1, .opened = 2, .denied = 3, .refused = 4};
  };
  OpenThree();
  const std::string named = Framed(StrCat(BigEndian(static_cast<int16_t>(ApiKey::kListOffsets), 2), BigEndian(1, 2),
                                          BigEndian(9, 4), BigEndian(300, 2), std::string(300, 'c'), "request"));
  open_.back().application.Send(named);
  EXPECT_EQ(open_.back().broker.ReceiveFrame(), named);
  const ConnectionReport report = List({.most = 1}).connections.at(0);
  EXPECT_EQ(report.clientId, std::string(identity::kLongestClientId, 'c'));
  EXPECT_EQ(report.principal.size(), ConnectionReport::kLongestText);
  EXPECT_EQ(report.records.sealed, 1u);
  EXPECT_EQ(report.records.refused, 4u);
}

// A busy worker must not keep whoever asks, nor the others' answers.
TEST_F(ConnectionListTest, DoesNotWaitForAWorkerThatIsStuck) {
  const auto isStuck = std::make_shared<std::atomic<bool>>(false);  // the workers tick for longer than this test's body
  hooks_.tick = [isStuck](size_t worker) {
    while (worker == 1 && *isStuck) ::usleep(1000);
  };
  OpenThree();
  *isStuck = true;
  EXPECT_TRUE(Eventually([&] {
    const ConnectionList list = server_->ListConnections({}, std::chrono::milliseconds(50));
    return list.silentWorkers == 1 && list.connections.size() == list.total && list.total < 3 && list.total > 0;
  }));
  *isStuck = false;
  EXPECT_TRUE(Eventually([&] { return List({}).connections.size() == 3; }));
}

TEST_F(ConnectionListTest, KnowsWhatHasBeenBusyLately) {
  OpenThree();
  EXPECT_TRUE(Eventually([&] { return List({.most = 1, .recently = true}).connections.at(0).recentBytes == 0; }));
  EXPECT_TRUE(Eventually([&] {
    ExpectServed(open_.front(), 7);
    const ConnectionList list = List({.most = 1, .recently = true});
    return list.connections.at(0).id == 1 && list.connections.at(0).recentBytes > 0;
  }));
}

// Connections whose pod the agent has not heard of yet.
class IdentityTest : public ServerTest {
 protected:
  IdentityTest() { setup_.isKnown = false; }
  bool IsCounted(const char* result) {
    const std::string line = StrCat("kveil_identity_waits_total{result=\"", result, "\"} 1\n");
    return Eventually([&] { return metrics_.Text().find(line) != std::string::npos; });
  }
  std::vector<std::string> Pods() {
    std::lock_guard<std::mutex> lock(setup_.mutex);
    return setup_.pods;
  }
};

TEST_F(IdentityTest, AConnectionWaitsUntilItsPodIsKnown) {
  options_.identityTimeout = std::chrono::hours(1);
  Start();
  Peer application = Connect(Serve(1));
  application.Send(Request(1));
  ASSERT_TRUE(Eventually([&] { return setup_.looks >= 3; }));
  EXPECT_TRUE(Pods().empty());
  EXPECT_EQ(server_->connectionCount(), 1u) << "it has its place while it waits";
  setup_.isKnown = true;
  Peer broker(UniqueFd(::accept4(brokerListener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
  EXPECT_EQ(broker.ReceiveFrame(), Request(1));
  EXPECT_EQ(Pods(), std::vector<std::string>{"known"});
  EXPECT_TRUE(IsCounted("known"));
}

TEST_F(IdentityTest, OneThatStaysUnknownGoesOnAsNobodys) {
  options_.identityTimeout = std::chrono::milliseconds(30);
  Start();
  Both both = OpenThrough(Serve(1), 1);
  ExpectServed(both);
  EXPECT_EQ(Pods(), std::vector<std::string>{""});
  EXPECT_TRUE(IsCounted("unknown"));
}

TEST_F(IdentityTest, ThoseThatWaitCountTowardsTheLimit) {
  options_.connections = 1;
  options_.identityTimeout = std::chrono::hours(1);
  Start();
  const SocketAddress address = Serve(1);
  Peer first = Connect(address);
  ASSERT_TRUE(Eventually([&] { return setup_.looks > 0; }));
  EXPECT_EQ(Connect(address).HowItEnded(), "by a reset");
  EXPECT_TRUE(Ended("limit"));
}

TEST_F(IdentityTest, ThoseThatWaitEndWithTheirNamespaceAndWithTheAgent) {
  options_.identityTimeout = std::chrono::hours(1);
  setup_.cookie = 1;
  Start();
  Peer first = Connect(Serve(1));
  ASSERT_TRUE(Eventually([&] { return setup_.looks > 0; }));
  server_->Release(1);
  EXPECT_EQ(first.HowItEnded(), "in order");
  EXPECT_TRUE(Eventually([&] { return server_->connectionCount() == 0; }));
  setup_.looks = 0;
  setup_.cookie = 2;
  Peer second = Connect(Serve(2));
  ASSERT_TRUE(Eventually([&] { return setup_.looks > 0; }));
  server_->Drain();
  EXPECT_EQ(second.HowItEnded(), "in order");
}

// Applications that do not read what they asked for.
class HoarderTest : public ServerTest {
 protected:
  HoarderTest() {
    options_.workers = 1;
    options_.limits.hoardTimeout = std::chrono::milliseconds(500);
  }
  // One that has received a little of a long answer.
  Both OpenHoarder(const SocketAddress& address) {
    Both both = OpenThrough(address);
    both.application.Send(Request(1));
    both.broker.ReceiveFrame();
    both.broker.SendUntilItStops(answer_);
    return both;
  }

  const std::string answer_ = ResponseFrameOf(1, Pattern(64 << 20));
};

TEST_F(HoarderTest, IsEndedWhenOthersWaitForItsMemory) {
  options_.receiveBuffers = 2;
  Start();
  const SocketAddress address = Serve(1);
  Both first = OpenHoarder(address);
  Both second = OpenHoarder(address);
  Both other = OpenThrough(address);
  ExpectServed(other);
  EXPECT_TRUE(Ended("stalled")) << "not one, or more than one was ended";
  first.application.ReceiveRest();
  EXPECT_EQ(first.application.HowItEnded(), "by a reset") << "the one that stood still for longer";
}

// Each holds the buffer that the other's answer needs.
TEST_F(HoarderTest, IsOneOfThoseWhoseQuestionsHoldAllMemory) {
  options_.receiveBuffers = 2;
  setup_.makeInterceptor = [] {
    auto asking = std::make_unique<FakeInterceptor>(std::vector<ApiKey>{ApiKey::kOffsetCommit});
    asking->asks = true;
    return asking;
  };
  Start();
  const SocketAddress address = Serve(1);
  std::vector<Both> open;
  for (int i = 0; i < 2; ++i) open.push_back(OpenThrough(address));
  for (Both& both : open) both.application.Send(RequestFrameOf(ApiKey::kOffsetCommit, 1, "body"));
  for (Both& both : open) {
    const std::string question = both.broker.ReceiveFrame();
    both.broker.Send(Framed(StrCat(question.substr(8, 4), "an answer")));
  }
  bool goesOn = false;
  for (int i = 0; i < 80 && !goesOn; ++i)
    goesOn = open[0].broker.HasBytesWithin(50) || open[1].broker.HasBytesWithin(50);
  EXPECT_TRUE(goesOn);
  Both other = OpenThrough(address);
  other.application.Send(Request(5));
  EXPECT_TRUE(other.broker.HasBytesWithin(3000)) << "others stand still, too";
}

TEST_F(HoarderTest, IsLeftAloneWhileThereIsEnoughForAll) {
  Start();
  const SocketAddress address = Serve(1);
  Both hoarder = OpenThrough(address);
  hoarder.application.Send(Request(1));
  hoarder.broker.ReceiveFrame();
  const size_t taken = hoarder.broker.SendUntilItStops(answer_);
  Both other = OpenThrough(address);
  const int ticks = ticks_;
  ASSERT_TRUE(Eventually([&] { return ticks_ > ticks + 8; })) << "no two seconds have passed";
  ExpectServed(other);
  std::thread answering([&] { hoarder.broker.Send(std::string_view(answer_).substr(taken)); });
  EXPECT_TRUE(hoarder.application.Receive(answer_.size()) == answer_);
  answering.join();
}

TEST_F(ServerTest, TicksOnEachWorker) {
  Start();
  EXPECT_TRUE(Eventually([this] { return ticks_ >= 4; }));
}

TEST_F(ServerTest, LetsGoOfOneNamespaceAndLeavesTheOthersAlone) {
  Start();
  const SocketAddress one = Serve(1);
  const SocketAddress two = Serve(2);
  std::vector<Both> ofOne;
  std::vector<Both> ofTwo;
  for (int i = 0; i < 2; ++i) {
    ofOne.push_back(OpenThrough(one, 1));
    ofTwo.push_back(OpenThrough(two, 2));
  }
  for (Both& both : ofOne) ExpectServed(both);
  for (Both& both : ofTwo) ExpectServed(both);
  server_->Release(1);
  for (Both& both : ofOne) {
    EXPECT_EQ(both.broker.HowItEnded(), "in order");
    both.broker.Close();
    EXPECT_EQ(both.application.HowItEnded(), "in order");
  }
  EXPECT_TRUE(Eventually([this] { return !Released().empty(); }));
  EXPECT_TRUE(IsRefused(one));
  for (Both& both : ofTwo) ExpectServed(both, 2);
  Both late = OpenThrough(two, 2);
  ExpectServed(late);
  EXPECT_EQ(Released(), (std::vector<uint64_t>{1}));
}

TEST_F(ServerTest, LetsGoOfANamespaceThatHasNothingOpen) {
  Start();
  const SocketAddress address = Serve(1);
  server_->Release(1);
  server_->Release(7);
  EXPECT_TRUE(Eventually([this] { return Released().size() == 2; }));
  EXPECT_TRUE(IsRefused(address));
}

TEST_F(ServerTest, WaitsForOwedAnswersBeforeItLetsGo) {
  Start();
  Both both = OpenThrough(Serve(1), 1);
  both.application.Send(Request(1));
  EXPECT_EQ(both.broker.ReceiveFrame(), Request(1));
  server_->Release(1);
  ::usleep(50'000);
  EXPECT_TRUE(Released().empty());
  both.broker.Send(ResponseFrameOf(1, "answer"));
  EXPECT_EQ(both.application.ReceiveFrame(), ResponseFrameOf(1, "answer"));
  both.broker.Close();
  EXPECT_TRUE(Eventually([this] { return !Released().empty(); }));
}

TEST_F(ServerTest, EndsWhatIsNotFinishedWhenTheDrainTimeoutHasPassed) {
  options_.drainTimeout = std::chrono::milliseconds(100);
  Start();
  Both both = OpenThrough(Serve(1), 1);
  both.application.Send(Request(1));
  EXPECT_EQ(both.broker.ReceiveFrame(), Request(1));
  server_->Release(1);
  EXPECT_EQ(both.application.HowItEnded(), "by a reset");
  EXPECT_TRUE(Eventually([this] { return !Released().empty(); }));
  EXPECT_TRUE(Ended("stalled"));
}

TEST_F(ServerTest, ServesANamespaceThatComesBack) {
  Start();
  Serve(1);
  server_->Release(1);
  ASSERT_TRUE(Eventually([this] { return !Released().empty(); }));
  const SocketAddress again = Serve(1);
  for (int i = 0; i < 2; ++i) {
    Both both = OpenThrough(again, 1);
    ExpectServed(both);
  }
}

// A pod's namespace may be served anew while its last connections are still finishing.
TEST_F(ServerTest, ServesANamespaceThatComesBackBeforeItWasLetGo) {
  options_.drainTimeout = std::chrono::milliseconds(200);
  Start();
  Both old = OpenThrough(Serve(1), 1);
  old.application.Send(Request(1));
  EXPECT_EQ(old.broker.ReceiveFrame(), Request(1));
  server_->Release(1);
  const SocketAddress again = Serve(1);
  Both fresh = OpenThrough(again, 1);
  ExpectServed(fresh);
  EXPECT_EQ(old.application.HowItEnded(), "by a reset");
  EXPECT_TRUE(Eventually([this] { return Released().size() == 1; }));
  ::usleep(100'000);
  ExpectServed(fresh, 2);
}

TEST_F(ServerTest, DrainsEverythingAndTakesNothingNew) {
  Start();
  const SocketAddress one = Serve(1);
  const SocketAddress two = Serve(2);
  Both owed = OpenThrough(one, 1);
  Both idle = OpenThrough(two, 2);
  ExpectServed(idle);
  owed.application.Send(Request(1));
  EXPECT_EQ(owed.broker.ReceiveFrame(), Request(1));
  std::thread draining([this] { server_->Drain(); });
  EXPECT_EQ(idle.broker.HowItEnded(), "in order");
  idle.broker.Close();
  EXPECT_TRUE(Eventually([&] { return IsRefused(one) && IsRefused(two); }));
  owed.broker.Send(ResponseFrameOf(1, "answer"));
  EXPECT_EQ(owed.application.ReceiveFrame(), ResponseFrameOf(1, "answer"));
  owed.broker.Close();
  draining.join();
  EXPECT_EQ(server_->connectionCount(), 0u);
}

TEST_F(ServerTest, EndsEverythingAtOnceWhenItIsDestroyed) {
  Start();
  Both both = OpenThrough(Serve(1), 1);
  both.application.Send(Request(1));
  EXPECT_EQ(both.broker.ReceiveFrame(), Request(1));
  server_.reset();
  EXPECT_EQ(both.application.HowItEnded(), "by a reset");
}

TEST_F(ServerTest, EndsWithoutAnyConnection) {
  Start();
  Serve(1);
  server_.reset();
}

}  // namespace
}  // namespace kveil::proxy
