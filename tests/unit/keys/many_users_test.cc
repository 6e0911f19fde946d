// One workload that asks for very many keys, and what the others notice of it.
#include <gmock/gmock.h>

#include <thread>

#include "base/text.h"
#include "key_fixture.h"
#include "keys/service/new_user_limit.h"

namespace kveil::keys {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

class ManyUsersTest : public KeyTest {
 protected:
  static Misses Users(std::string_view prefix, size_t count, size_t first = 0) {
    Misses misses;
    for (size_t i = first; i < first + count; ++i) misses.scopes.emplace_back(User(StrCat(prefix, i)));
    return misses;
  }
};

TEST_F(ManyUsersTest, ALonelyQuestionIsAnsweredInTheNextTurnHoweverManyAnotherWorkloadAsked) {
  std::mutex mutex;
  std::vector<std::string> order;
  std::promise<void> proceed;
  std::promise<void> answered;
  auto service = Open();  // answers all before it goes
  service->Fetch(Misses(), "first", [&](FetchResult) { proceed.get_future().wait(); });
  for (size_t i = 0; i < 100; ++i) {
    service->Fetch(Users("many-", 64, i * 64), "many", [&](FetchResult) {
      const std::lock_guard lock(mutex);
      order.push_back("many");
    });
  }
  service->Fetch(Users("lonely-", 1), "lonely", [&](FetchResult result) {
    EXPECT_TRUE(result.status.ok()) << result.status;
    const std::lock_guard lock(mutex);
    order.push_back("lonely");
    answered.set_value();
  });
  proceed.set_value();
  answered.get_future().wait();
  std::unique_lock lock(mutex);
  const auto before = std::count(order.begin(), order.end(), "many");
  EXPECT_LE(before, 16) << "questions of 64 keys were answered first; two turns have 1024 keys";
  lock.unlock();
}

TEST_F(ManyUsersTest, AnErasureComesBeforeTheQuestionsThatWait) {
  std::atomic<int> answered{0};
  std::promise<void> proceed;
  std::atomic<bool> erasing{false};
  auto service = Open();  // answers all before it goes
  ASSERT_TRUE(Ask(*service, Users("person-", 1)).status.ok());
  service->Fetch(Misses(), "first", [&](FetchResult) {
    proceed.get_future().wait();
    while (!erasing) std::this_thread::yield();
  });
  // So many that they take much longer than a thread needs to get from the flag into Erase.
  for (size_t i = 0; i < 100; ++i) {
    service->Fetch(Users("many-", kMostKeysOfAFetch, i * kMostKeysOfAFetch), "many", [&](FetchResult) { ++answered; });
  }
  std::thread eraser([&] {
    erasing = true;
    EXPECT_TRUE(service->Erase(std::nullopt, "person-0").ok());
    EXPECT_LT(answered, 50) << "of 100";
  });
  proceed.set_value();
  eraser.join();
}

TEST_F(ManyUsersTest, AFetchOfMoreKeysThanATurnMayTakeIsRefused) {
  auto service = Open();
  std::promise<FetchResult> promise;
  service->Fetch(Users("u", kMostKeysOfAFetch + 1), "many", [&](FetchResult r) { promise.set_value(std::move(r)); });
  const FetchResult result = promise.get_future().get();
  EXPECT_EQ(result.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(result.scopes.empty());
}

TEST_F(ManyUsersTest, TakeLeavesNothingOutAndKeepsTheOrder) {
  Misses misses = Users("u", 5);
  misses.ids.resize(2);
  Misses taken = misses.Take(3);
  ASSERT_EQ(taken.size(), 3u);
  EXPECT_EQ(taken.scopes.front().subject, "u2");
  EXPECT_EQ(taken.scopes.back().subject, "u4");
  taken = misses.Take(3);
  EXPECT_EQ(taken.scopes.size(), 2u);
  EXPECT_EQ(taken.ids.size(), 1u);
  EXPECT_EQ(misses.size(), 1u);
  EXPECT_EQ(misses.Take(3).size(), 1u);
  EXPECT_TRUE(misses.empty());
}

TEST(NewUserLimitTest, FillsAgainWithTimeForEachWorkloadByItself) {
  NewUserLimit limit(2);
  NewUserLimit::Time now{};
  const auto taken = [&](std::string_view workload) {
    int count = 0;
    while (limit.Take(workload, now)) ++count;
    return count;
  };
  EXPECT_EQ(taken("a"), 20);
  EXPECT_EQ(taken("b"), 20);
  now += seconds(3);
  EXPECT_EQ(taken("a"), 6);
  now += std::chrono::hours(1);
  EXPECT_EQ(taken("a"), 20);
}

// Of a workload that never stops asking, the whole allowance does not come back because some time is over.
TEST(NewUserLimitTest, HoldsForAWorkloadThatNeverStops) {
  NewUserLimit limit(1);
  NewUserLimit::Time now{};
  int count = 0;
  for (int second = 0; second < 600; ++second, now += seconds(1)) {
    while (limit.Take("a", now)) ++count;
  }
  EXPECT_LE(count, 610);
}

TEST_F(ManyUsersTest, NewUsersBeyondTheLimitWaitAndHealthNamesTheWorkload) {
  KeyServiceOptions options = Options();
  options.newUsersPerSecond = 3;
  auto service = Open(options);
  FetchResult flood = Ask(*service, Users("u", 40), "flood.service");
  EXPECT_EQ(flood.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(flood.scopes.size(), 30u);
  EXPECT_THAT(std::string(service->health().message()), AllOf(HasSubstr("flood.service"), HasSubstr("3 new users")));
  // The others, known users of the same workload, and keys of topics are made and found as ever.
  EXPECT_TRUE(Ask(*service, Users("other", 5), "other.service").status.ok());
  EXPECT_TRUE(Ask(*service, Users("u", 30), "flood.service").status.ok());
  Misses topic;
  topic.scopes.emplace_back(Topic("orders"));
  EXPECT_TRUE(Ask(*service, std::move(topic), "flood.service").status.ok());
  Advance(seconds(4));
  EXPECT_TRUE(Ask(*service, Users("u", 40), "flood.service").status.ok());
}

TEST_F(ManyUsersTest, NewUsersDoNotTakeTheRoomThatErasingNeeds) {
  std::atomic<uint64_t> free{uint64_t{1} << 30};
  KeyServiceOptions options = Options();
  options.registry.freeBytes = [&] { return free.load(); };
  auto service = Open(options);
  ASSERT_TRUE(Ask(*service, Users("u", 2)).status.ok());
  free = 1 << 20;
  EXPECT_EQ(Ask(*service, Users("u", 3)).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(service->health().message()), AllOf(HasSubstr(registryFile()), HasSubstr("nearly full")));
  EXPECT_TRUE(Ask(*service, Users("u", 2)).status.ok());
  EXPECT_TRUE(service->Erase(std::nullopt, "u0").ok());
  free = uint64_t{1} << 30;
  EXPECT_TRUE(Eventually([&] { return service->health().ok(); })) << service->health();
  EXPECT_TRUE(Ask(*service, Users("u", 3)).status.ok());
}

TEST_F(ManyUsersTest, MadeUpIdsDriveNoKeyOutOfTheCache) {
  auto service = Open();
  KeyCache cache(*service, seconds(5), 10);
  const crypto::KeyId known = SealingKey(*service, cache, User("38"))->id;
  Advance(seconds(6));  // and it is not in use
  Misses madeUp;
  for (int i = 0; i < 200; ++i) madeUp.ids.push_back(crypto::ComputeKeyId(crypto::SecretKey::Random()));
  const KeyRef one = madeUp.ids.front();
  ASSERT_TRUE(cache.Deliver(Ask(*service, std::move(madeUp))).ok());
  EXPECT_EQ(cache.FindById(one).state, KeyCache::State::kUnknown);
  EXPECT_EQ(cache.FindById(known).state, KeyCache::State::kReady);
  EXPECT_EQ(cache.size(), 1u);
}

// As long as a batch waits for the rest of its keys, those that it has must not go.
TEST_F(ManyUsersTest, KeysStayAsLongAsABatchMayWait) {
  auto service = Open();
  KeyCache cache(*service, seconds(20), 10);
  for (size_t first = 0; first < 40; first += 4) {
    ASSERT_TRUE(cache.Deliver(Ask(*service, Users("u", 4, first))).ok());
    Advance(seconds(1));
    cache.Refresh();
  }
  for (int i = 0; i < 40; ++i) EXPECT_NE(cache.FindForSealing(User(StrCat("u", i))), nullptr) << i;
}

}  // namespace
}  // namespace kveil::keys
