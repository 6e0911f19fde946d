// When an erasure is known to be over: every agent has confirmed that its caches have dropped the keys, or is bound to.
#include "keys/service/erasure_spread.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "key_fixture.h"
#include "keys/service/revocations.h"
#include "postgres_server.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using State = KeyCache::State;
using testing::ElementsAre;

TEST(RevocationsTest, WhatAllFollowersHaveDroppedIsWhatTheSlowestHas) {
  Revocations revocations;
  revocations.RevokeAll();
  Revocations::Follower fast(revocations);
  EXPECT_EQ(fast.dropped(), 1u) << "it has nothing from before it began";
  {
    Revocations::Follower slow(revocations);
    revocations.Revoke({crypto::KeyId()});
    EXPECT_EQ(fast.dropped(), 1u);
    fast.Dropped(2);
    EXPECT_EQ(fast.dropped(), 2u);
    EXPECT_EQ(revocations.DroppedByAll(), 1u);
  }
  EXPECT_EQ(revocations.DroppedByAll(), 2u) << "one that is gone has nothing";
}

class ErasureWatchTest : public testing::Test {
 protected:
  static Registry::Agent Agent(uint8_t id, int64_t confirmed, milliseconds lastSeen) {
    return {{id}, "agent-" + std::to_string(id), seconds(60), confirmed, lastSeen};
  }
  static constexpr SteadyTime kBegin{seconds(1000)};
  static constexpr absl::Time kWall = absl::FromUnixSeconds(1'750'000'000);
};

TEST_F(ErasureWatchTest, IsCompleteWhenEveryAgentHasConfirmedOrEnded) {
  ErasureWatch watch(8, kBegin);
  EXPECT_FALSE(watch.Spread(kBegin, kWall).isComplete) << "nobody was asked yet";
  watch.Take({Agent(1, 8, {}), Agent(2, 7, {}), Agent(3, 7, {})}, kWall);
  EXPECT_FALSE(watch.Spread(kBegin, kWall).isComplete);
  // The second has ended. The fourth has come later, and has nothing from before.
  watch.Take({Agent(1, 8, {}), Agent(3, 8, {}), Agent(4, 0, {})}, kWall + absl::Seconds(1));
  const ErasureSpread spread = watch.Spread(kBegin + seconds(1), kWall + absl::Seconds(1));
  EXPECT_TRUE(spread.isComplete);
  ASSERT_EQ(spread.agents.size(), 3u);
  EXPECT_EQ(spread.agents[0].confirmed, kWall);
  EXPECT_EQ(spread.agents[2].confirmed, kWall + absl::Seconds(1));
}

TEST_F(ErasureWatchTest, OneThatDoesNotAnswerCountsFromTheErasureHoweverLongItWasNotSeen) {
  ErasureWatch watch(8, kBegin);
  const SteadyTime now = kBegin + seconds(2);
  watch.Take({Agent(1, 7, {}), Agent(2, 7, seconds(40))}, kWall);
  ErasureSpread spread = watch.Spread(now, kWall);
  EXPECT_FALSE(spread.isComplete);
  EXPECT_EQ(spread.agents[0].refusesFrom, kWall + absl::Seconds(-2 + 60 + 1));
  EXPECT_EQ(spread.agents[1].refusesFrom, kWall + absl::Seconds(-2 + 60 + 1));
  EXPECT_FALSE(watch.Spread(kBegin + seconds(60), kWall).isComplete);
  EXPECT_TRUE(watch.Spread(kBegin + seconds(61), kWall).isComplete);
}

// Agents of several nodes with real clocks, a PostgreSQL and one root key.
class ErasureSpreadTest : public KeyTest {
 protected:
  KeyServiceOptions SharedOptions(const std::string& name, milliseconds cacheTtl = seconds(60)) {
    KeyServiceOptions options;
    options.root.file = keyFile();
    options.registry = server_.OptionsFor(folder_);
    options.agentName = name;
    options.cacheTtl = cacheTtl;
    return options;
  }
  static ErasureSpread Await(KeyService& service, int64_t number, milliseconds patience) {
    return AwaitAgents(service, number, patience, [] { return true; });
  }
  int64_t Erase(KeyService& service, const std::string& user) {
    auto erased = service.Erase(std::nullopt, user);
    EXPECT_TRUE(erased.ok()) << erased.status();
    return erased.ok() ? erased->number : 0;
  }
  std::set<pid_t> Backends() {
    std::set<pid_t> pids;
    for (const std::string& pid : server_.ClientOf(folder_).Query(
             "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kveil'")) {
      pids.insert(std::stoi(pid));
    }
    return pids;
  }

  PostgresServer& server_ = PostgresServer::Running();
};

TEST_F(ErasureSpreadTest, IsCompleteOnlyWhenTheCachesOfAllAgentsHaveDroppedTheKey) {
  auto a = Open(SharedOptions("a"));
  auto b = Open(SharedOptions("b"));
  KeyCache busy(*b), idle(*b);
  const crypto::KeyId id = SealingKey(*b, idle, User("38"))->id;
  ASSERT_EQ(StateOf(*b, busy, id), State::kReady);
  const int64_t number = Erase(*a, "38");
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    while (!stop) {
      busy.Refresh();
      usleep(10'000);
    }
  });
  ErasureSpread spread = Await(*a, number, milliseconds(1500));
  EXPECT_FALSE(spread.isComplete) << "a worker of b has not dropped the key";
  ASSERT_EQ(spread.agents.size(), 2u);
  EXPECT_EQ(spread.agents[0].name, "a");
  EXPECT_TRUE(spread.agents[0].confirmed.has_value());
  EXPECT_EQ(spread.agents[1].name, "b");
  EXPECT_FALSE(spread.agents[1].confirmed.has_value());
  EXPECT_GT(spread.agents[1].refusesFrom, absl::Now() + absl::Seconds(50));
  idle.Refresh();
  EXPECT_EQ(idle.FindById(id).state, State::kErased);
  const auto start = std::chrono::steady_clock::now();
  spread = Await(*a, number, seconds(10));
  EXPECT_TRUE(spread.isComplete);
  EXPECT_TRUE(spread.agents.at(1).confirmed.has_value());
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(1)) << "it was noted late";
  stop = true;
  worker.join();
}

// The server wakes the other agents; a poll alone takes a quarter of a second on average.
TEST_F(ErasureSpreadTest, IsHeardOfAtOnce) {
  auto a = Open(SharedOptions("a"));
  auto b = Open(SharedOptions("b"));
  KeyCache cache(*b);
  std::vector<milliseconds> times;
  for (int i = 0; i < 9; ++i) {
    const std::string user = std::to_string(i);
    const crypto::KeyId id = SealingKey(*b, cache, User(user))->id;
    usleep(37'000);  // not in step with the polls
    Erase(*a, user);
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(Eventually([&] {
      cache.Refresh();
      return cache.FindById(id).state == State::kErased;
    }));
    times.push_back(std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start));
  }
  std::sort(times.begin(), times.end());
  RecordProperty("medianMilliseconds", static_cast<int>(times[4].count()));
  EXPECT_LT(times[4], milliseconds(100));
}

TEST_F(ErasureSpreadTest, DoesNotWaitForAnAgentThatHasEndedAndIsToldToStop) {
  auto a = Open(SharedOptions("a"));
  {
    auto b = Open(SharedOptions("b"));
    EXPECT_EQ(a->ReadAgents()->agents.size(), 2u);
  }
  EXPECT_EQ(a->ReadAgents()->agents.size(), 1u);
  KeyCache cache(*a);
  SealingKey(*a, cache, User("38"));
  const int64_t number = Erase(*a, "38");
  const ErasureSpread spread = AwaitAgents(*a, number, std::nullopt, [] { return false; });
  EXPECT_FALSE(spread.isComplete) << "of this agent's own workers, none was waited for";
  cache.Refresh();
  EXPECT_TRUE(Await(*a, number, seconds(10)).isComplete);
}

// The server's process for b is stopped: as with dropped packets, nothing comes back and nothing says so.
TEST_F(ErasureSpreadTest, AnAgentThatIsCutOffRefusesTheKeyWhenTheEraseSaysSo) {
  auto a = Open(SharedOptions("a"));
  const std::set<pid_t> before = Backends();
  auto b = Open(SharedOptions("b", /*cacheTtl=*/seconds(1)));
  pid_t backend = 0;
  for (const pid_t pid : Backends()) {
    if (!before.contains(pid)) backend = pid;
  }
  ASSERT_NE(backend, 0);
  KeyCache cache(*b);
  const crypto::KeyId id = SealingKey(*b, cache, User("38"))->id;
  std::atomic<bool> isOver{false};
  std::atomic<int> openedBefore{0}, openedAfter{0};
  std::thread reader([&] {  // as a worker, who reads records of that user all the time
    const auto end = std::chrono::steady_clock::now() + seconds(5);
    for (int rounds = 0; std::chrono::steady_clock::now() < end && rounds < 20;) {
      const bool wasOver = isOver;
      if (StateOf(*b, cache, id) == State::kReady) ++(wasOver ? openedAfter : openedBefore);
      if (wasOver) ++rounds;
      usleep(1000);
    }
  });
  EXPECT_TRUE(Eventually([&] { return openedBefore > 100; })) << "it is well as long as it is connected";
  StoppedBackend stopped(backend);
  const int64_t number = Erase(*a, "38");
  const ErasureSpread spread = Await(*a, number, seconds(10));
  isOver = true;
  EXPECT_TRUE(spread.isComplete);
  ASSERT_EQ(spread.agents.size(), 2u);
  EXPECT_EQ(spread.agents[1].name, "b");
  EXPECT_FALSE(spread.agents[1].confirmed.has_value());
  EXPECT_LE(spread.agents[1].refusesFrom, absl::Now());
  reader.join();
  stopped.Continue();
  EXPECT_EQ(openedAfter, 0);
  EXPECT_TRUE(Eventually([&] { return b->health().ok() && StateOf(*b, cache, id) == State::kErased; }));
}

TEST_F(ErasureSpreadTest, AnAgentThatTheRegistryDoesNotKnowGetsNoKeys) {
  auto a = Open(SharedOptions("a"));
  KeyCache cacheOfA(*a);
  const crypto::KeyId id = SealingKey(*a, cacheOfA, User("38"))->id;
  server_.ClientOf(folder_).Query(
      "CREATE FUNCTION kveil.none() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
      " CREATE TRIGGER none BEFORE INSERT ON kveil.agents FOR EACH ROW EXECUTE FUNCTION kveil.none()");
  auto b = Open(SharedOptions("b"));
  KeyCache cache(*b);
  Misses misses;
  misses.ids.push_back(id);
  misses.scopes.emplace_back(User("38"));
  EXPECT_TRUE(absl::IsUnavailable(cache.Deliver(Ask(*b, std::move(misses)))));
  EXPECT_NE(cache.FindById(id).state, State::kReady);
  EXPECT_TRUE(Eventually([&] { return !b->health().ok(); })) << "nobody is told";
  server_.ClientOf(folder_).Query("DROP TRIGGER none ON kveil.agents");
  EXPECT_EQ(StateOf(*b, cache, id), State::kReady);
  EXPECT_TRUE(Eventually([&] { return b->health().ok(); }));
}

// As after a fail-over to a server that lacks the last transactions: b was noted a moment ago, and not in this
// registry.
TEST_F(ErasureSpreadTest, AnAgentThatARegistryOpenedAnewDoesNotKnowGetsNoKeys) {
  auto a = Open(SharedOptions("a"));
  KeyCache cacheOfA(*a);
  const crypto::KeyId id = SealingKey(*a, cacheOfA, User("38"))->id;
  const std::set<pid_t> before = Backends();
  auto b = Open(SharedOptions("b"));
  std::set<pid_t> after = Backends();
  std::erase_if(after, [&](pid_t pid) { return before.contains(pid); });
  ASSERT_EQ(after.size(), 1u);
  KeyCache cache(*b);
  ASSERT_NE(SealingKey(*b, cache, User("7")), nullptr);
  server_.ClientOf(folder_).Query(
      StrCat("CREATE FUNCTION kveil.none() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
             " CREATE TRIGGER none BEFORE INSERT ON kveil.agents FOR EACH ROW EXECUTE FUNCTION kveil.none();"
             " DELETE FROM kveil.agents WHERE name = 'b'; SELECT pg_terminate_backend(",
             *after.begin(), ")"));
  ASSERT_TRUE(Eventually([&] {
    const std::set<pid_t> now = Backends();
    return std::any_of(now.begin(), now.end(),
                       [&](pid_t pid) { return !before.contains(pid) && pid != *after.begin(); });
  })) << "b does not come back";
  const auto end = std::chrono::steady_clock::now() + seconds(1);
  while (std::chrono::steady_clock::now() < end) ASSERT_NE(StateOf(*b, cache, id), State::kReady);
  server_.ClientOf(folder_).Query("DROP TRIGGER none ON kveil.agents");
  EXPECT_TRUE(Eventually([&] { return StateOf(*b, cache, id) == State::kReady; }));
}

// What the bound of an agent that does not answer rests on. Its reads still work, and its notes do not.
TEST_F(ErasureSpreadTest, NoKeyLivesLongerThanCacheTtlAfterItsAgentWasSeen) {
  KeyServiceOptions options = Options();
  options.registry = server_.OptionsFor(folder_);
  auto service = Open(options);
  KeyCache cache(*service);
  const crypto::KeyId id = SealingKey(*service, cache, User("38"))->id;
  server_.ClientOf(folder_).Query(
      "CREATE FUNCTION kveil.none() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
      " CREATE TRIGGER none BEFORE INSERT OR UPDATE ON kveil.agents FOR EACH ROW EXECUTE FUNCTION kveil.none()");
  Advance(seconds(50));
  KeyCache other(*service);
  EXPECT_EQ(StateOf(*service, other, id), State::kReady);
  Advance(seconds(11));
  other.Refresh();
  EXPECT_NE(other.FindById(id).state, State::kReady);
  EXPECT_NE(StateOf(*service, other, id), State::kReady) << "it is read again";
  server_.ClientOf(folder_).Query("DROP TRIGGER none ON kveil.agents");
  EXPECT_EQ(StateOf(*service, other, id), State::kReady);
}

// It may come back on a standby that has lost the erasure: time alone makes nothing complete.
TEST_F(ErasureSpreadTest, IsNotCompleteWhileTheRegistryDoesNotAnswer) {
  auto a = Open(SharedOptions("a", /*cacheTtl=*/seconds(1)));
  KeyCache cache(*a);
  SealingKey(*a, cache, User("38"));
  const int64_t number = Erase(*a, "38");
  auto client = server_.ClientOf(folder_);
  bool isHidden = false;
  const ErasureSpread spread = AwaitAgents(*a, number, milliseconds(3500), [&] {
    if (!std::exchange(isHidden, true)) client.Query("ALTER TABLE kveil.agents RENAME TO hidden");
    return true;
  });
  EXPECT_FALSE(spread.isComplete);
  EXPECT_FALSE(spread.status.ok());
  ASSERT_EQ(spread.agents.size(), 1u);
  EXPECT_LE(spread.agents[0].refusesFrom, absl::Now()) << "nothing else was missing";
  client.Query("ALTER TABLE kveil.hidden RENAME TO agents");
  const ErasureSpread later = Await(*a, number, seconds(10));
  EXPECT_TRUE(later.isComplete) << later.status;
  EXPECT_TRUE(later.status.ok()) << later.status;
}

TEST_F(ErasureSpreadTest, OfAnSqliteRegistryWaitsForTheWorkersOfTheOneAgent) {
  auto service = Open();
  KeyCache cache(*service);
  SealingKey(*service, cache, User("38"));
  const int64_t number = Erase(*service, "38");
  EXPECT_FALSE(Await(*service, number, milliseconds(200)).isComplete);
  cache.Refresh();
  const ErasureSpread spread = Await(*service, number, seconds(10));
  EXPECT_TRUE(spread.isComplete);
  EXPECT_EQ(spread.agents.size(), 1u);
}

}  // namespace
}  // namespace kveil::keys
