#include "base/expiring_map.h"

#include <string>

#include "gtest/gtest.h"

namespace kveil {
namespace {

using std::chrono::seconds;

class ExpiringMapTest : public testing::Test {
 protected:
  using Map = ExpiringMap<std::string, int>;
  Map::Clock::time_point now_ = Map::Clock::now();
};

TEST_F(ExpiringMapTest, FindsWhatWasPutUntilItExpires) {
  Map map(10, seconds(60));
  map.Put("a", 1, now_);
  ASSERT_NE(map.Find("a", now_ + seconds(59)), nullptr);
  EXPECT_EQ(*map.Find("a", now_ + seconds(59)), 1);
  EXPECT_EQ(map.Find("a", now_ + seconds(60)), nullptr);
  EXPECT_EQ(map.Find("b", now_), nullptr);
}

TEST_F(ExpiringMapTest, PuttingAgainReplacesTheValueAndStartsItsLifetimeAnew) {
  Map map(10, seconds(60));
  map.Put("a", 1, now_);
  map.Put("a", 2, now_ + seconds(50));
  ASSERT_NE(map.Find("a", now_ + seconds(100)), nullptr);
  EXPECT_EQ(*map.Find("a", now_ + seconds(100)), 2);
  EXPECT_EQ(map.size(), 1u);
}

TEST_F(ExpiringMapTest, FindingAndRenewingStartsTheLifetimeAnew) {
  Map map(2, seconds(60));
  map.Put("a", 1, now_);
  map.Put("b", 2, now_);
  ASSERT_NE(map.FindAndRenew("a", now_ + seconds(50)), nullptr);
  ASSERT_NE(map.Find("a", now_ + seconds(100)), nullptr);
  EXPECT_EQ(map.Find("b", now_ + seconds(100)), nullptr);
  EXPECT_EQ(map.FindAndRenew("b", now_ + seconds(100)), nullptr);
  EXPECT_EQ(map.FindAndRenew("a", now_ + seconds(110)), nullptr) << "it has expired";
}

TEST_F(ExpiringMapTest, EvictsTheOldestWhenItIsFullAndCountsThat) {
  Map map(2, seconds(60));
  map.Put("a", 1, now_);
  map.Put("b", 2, now_);
  map.Put("a", 3, now_);  // "b" is the oldest now
  map.Put("c", 4, now_);
  EXPECT_EQ(map.size(), 2u);
  EXPECT_EQ(map.Find("b", now_), nullptr);
  EXPECT_NE(map.Find("a", now_), nullptr);
  EXPECT_NE(map.Find("c", now_), nullptr);
  EXPECT_EQ(map.evictions(), 1u);
}

TEST_F(ExpiringMapTest, IsEmptyAgainAfterItsEntriesExpiredThoughNobodyAsksForThem) {
  Map map(1'000, seconds(60));
  for (int i = 0; i < 1'000; ++i) map.Put(std::to_string(i), i, now_);
  for (int i = 0; i < 250; ++i) map.Find("another", now_ + seconds(60));
  EXPECT_TRUE(map.empty());
  EXPECT_EQ(map.evictions(), 0u);
}

TEST_F(ExpiringMapTest, WhatWasErasedIsGoneAndCountsAsNoEviction) {
  Map map(2, seconds(60));
  map.Put("a", 1, now_);
  EXPECT_TRUE(map.Erase("a"));
  EXPECT_FALSE(map.Erase("a"));
  EXPECT_EQ(map.Find("a", now_), nullptr);
  EXPECT_TRUE(map.empty());
  EXPECT_EQ(map.evictions(), 0u);
}

}  // namespace
}  // namespace kveil
