// Keys that are kept expanded: never another's, never longer than they may be, however many there are.
#include "keys/cache/expanded_keys.h"

#include <gtest/gtest.h>

#include <vector>

#include "../crypto/memory_search.h"
#include "keys/cache/key_slab.h"
#include "keys/cache/key_table.h"

namespace kveil::keys {
namespace {

using crypto::MemorySearch;
using crypto::Suite;

class ExpandedKeysTest : public testing::Test {
 protected:
  uint32_t Add() {
    CachedKey& key = slab_.Add();
    key.key = crypto::SecretKey::Random();
    return slab_.IndexOf(key);
  }
  size_t PlaceOf(uint32_t index, Suite suite = Suite::kPeriodKey, crypto::Period period = 7) {
    return expanded_.Of(slab_[index], index, suite, period, salt_);
  }
  // What the place is to have: as if the key had just been expanded.
  crypto::SecretKey RightKey(uint32_t index, Suite suite, crypto::Period period) {
    if (suite == Suite::kBatchKey) return crypto::DeriveBatchKey(slab_[index].key, salt_);
    return crypto::DerivePeriodKey(slab_[index].key, period);
  }
  void ExpectRight(uint32_t index, Suite suite = Suite::kPeriodKey, crypto::Period period = 7) {
    static const crypto::Nonce kNonce;
    ByteBuffer sealed(4 + crypto::kTagSize);
    right_.Expand(0, RightKey(index, suite, period));
    right_.Seal(0, kNonce, {}, AsBytes("text"), sealed.data());
    ByteBuffer opened(4);
    ASSERT_TRUE(expanded_.keys().Open(PlaceOf(index, suite, period), kNonce, {}, sealed, opened.data())) << index;
  }

  static constexpr uint32_t kMany = 20'000;  // more than there are places
  crypto::Salt salt_;
  KeySlab slab_{kMany};
  ExpandedKeys expanded_;
  crypto::GcmKeys right_{1};
};

TEST_F(ExpandedKeysTest, StayWhereTheyAre) {
  const uint32_t anna = Add();
  const uint32_t bert = Add();
  const size_t place = PlaceOf(anna);
  EXPECT_NE(PlaceOf(bert), place);
  EXPECT_EQ(PlaceOf(anna), place);
  ExpectRight(anna);
  ExpectRight(bert);
}

TEST_F(ExpandedKeysTest, AreOfTheSuitePeriodAndBatchThatIsAskedFor) {
  const uint32_t anna = Add();
  for (int round = 0; round < 2; ++round) {
    for (crypto::Period period : {7, 8, 7}) ExpectRight(anna, Suite::kPeriodKey, period);
    for (uint8_t byte : {1, 2}) {
      salt_.bytes[11] = byte;
      ExpectRight(anna, Suite::kBatchKey);
    }
  }
}

TEST_F(ExpandedKeysTest, AreNeverAnothersWhereThereAreMoreKeysThanPlaces) {
  for (uint32_t i = 0; i < kMany; ++i) Add();
  for (uint32_t i = 0; i < kMany; ++i) ExpectRight(i);
  for (uint32_t i = 0; i < kMany; i += 3) ExpectRight(kMany - 1 - i);
  for (uint32_t i = 0; i < 300; ++i) {
    expanded_.Forget(slab_[i * 7], i * 7);
    ExpectRight(i * 7 + 1);
    ExpectRight(i * 7);
  }
}

TEST_F(ExpandedKeysTest, ThatAreUsedAgainAndAgainStayWhereMostAreUsedOnce) {
  constexpr uint32_t kUsedAgain = 100;
  int uses = 0;
  int moves = 0;
  for (uint32_t i = 0; i < kMany; ++i) {
    Add();
    PlaceOf(i);
    if (i < kUsedAgain || i % 50 != 0) continue;
    for (uint32_t often = 0; often < kUsedAgain; ++often) {
      const uint32_t place = slab_[often].place;
      moves += PlaceOf(often) != place ? 1 : 0;
      ++uses;
    }
  }
  EXPECT_GT(uses, 30'000);
  EXPECT_LT(moves, uses / 100);
}

TEST_F(ExpandedKeysTest, LeaveNothingWhenTheyAreForgotten) {
  const uint32_t anna = Add();
  const uint32_t bert = Add();
  PlaceOf(anna);
  PlaceOf(bert);
  const MemorySearch search(crypto::DerivePeriodKey(slab_[anna].key, 7));
  EXPECT_EQ(search.Count(), 2) << "the period's key, and its schedule";
  expanded_.Forget(slab_[anna], anna);
  EXPECT_EQ(search.Count(), 1);
  slab_.Remove(anna);
  EXPECT_EQ(search.Count(), 0);
  ExpectRight(bert);
}

TEST_F(ExpandedKeysTest, KeysOfBatchesAreForgottenAllAtOnce) {
  const uint32_t anna = Add();
  const uint32_t bert = Add();
  PlaceOf(anna, Suite::kBatchKey);
  PlaceOf(bert);
  const MemorySearch batchKey(crypto::DeriveBatchKey(slab_[anna].key, salt_));
  const MemorySearch periodKey(crypto::DerivePeriodKey(slab_[bert].key, 7));
  EXPECT_EQ(batchKey.Count(), 1);
  expanded_.ForgetBatchKeys();
  EXPECT_EQ(batchKey.Count(), 0);
  EXPECT_EQ(periodKey.Count(), 2) << "it is for the next batch, too";
  ExpectRight(anna, Suite::kBatchKey);
}

TEST(KeySlabTest, KeepsItsKeysByAgeAndWipesThoseThatGo) {
  KeySlab slab(3);
  std::vector<uint32_t> indexes;
  for (int i = 0; i < 3; ++i) indexes.push_back(slab.IndexOf(slab.Add()));
  EXPECT_TRUE(slab.isFull());
  slab[indexes[1]].key = crypto::SecretKey::Random();
  const MemorySearch search(slab[indexes[1]].key);
  EXPECT_EQ(search.Count(), 1);
  slab.Remove(indexes[1]);
  EXPECT_EQ(search.Count(), 0);
  EXPECT_EQ(slab.oldest(), indexes[0]);
  slab.Remove(indexes[0]);
  EXPECT_EQ(slab.oldest(), indexes[2]);
  slab.Add();
  slab.Remove(indexes[2]);
  EXPECT_EQ(slab.size(), 1u);
  slab.Remove(slab.oldest());
  EXPECT_EQ(slab.oldest(), kNowhere);
}

TEST(CachedKeyTest, HasOneNameShortOrLong) {
  for (const size_t size : {0, 1, 30, 53, 54, 55, 1024}) {
    const std::string subject(size, 's');
    CachedKey key;
    for (int round = 0; round < 2; ++round) {
      key.SetName({Scope::kUser, "keyspace", subject});
      EXPECT_TRUE(key.IsNamed({Scope::kUser, "keyspace", subject})) << size;
      EXPECT_EQ(key.Name(), (ScopeName{Scope::kUser, "keyspace", subject})) << size;
      EXPECT_FALSE(key.IsNamed({Scope::kTopic, "keyspace", subject})) << size;
      EXPECT_FALSE(key.IsNamed({Scope::kUser, "keyspac", "e" + subject})) << size;
      EXPECT_FALSE(key.IsNamed({Scope::kUser, "keyspace", subject + "s"})) << size;
      EXPECT_FALSE(key.IsNamed({Scope::kUser, "keyspacf", subject})) << size;
    }
    key.ForgetName();
    EXPECT_FALSE(key.IsNamed({Scope::kUser, "keyspace", subject})) << size;
  }
}

TEST(KeyTableTest, TellsKeysWithOneTagApart) {
  KeyTable table;
  for (uint32_t index = 0; index < 100; ++index) table.Insert(index % 3, index);
  const auto find = [&](uint32_t tag, uint32_t index) {
    return table.Find(tag, [index](uint32_t other) { return other == index; });
  };
  for (uint32_t index = 0; index < 100; ++index) EXPECT_EQ(find(index % 3, index), index);
  EXPECT_EQ(find(1, 0), kNowhere);
  EXPECT_NE(table.Guess(1), kNowhere);
  table.Remove(1, 1);
  EXPECT_EQ(find(1, 1), kNowhere);
  EXPECT_EQ(find(1, 4), 4u);
}

}  // namespace
}  // namespace kveil::keys
