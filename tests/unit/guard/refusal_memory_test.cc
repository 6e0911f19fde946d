// An idempotent producer's batches stay in order after one was refused.
#include "guard/refusal_memory.h"

#include <gtest/gtest.h>

#include <limits>

namespace kveil::guard {
namespace {

using kafka::ErrorCode;

class RefusalMemoryTest : public testing::Test {
 protected:
  static ProducerPartition Producer(int64_t id = 7, int16_t epoch = 0) {
    ProducerPartition key;
    key.producerId = id;
    key.producerEpoch = epoch;
    key.cluster = "main";
    key.topic = "clicks";
    return key;
  }
  std::optional<ErrorCode> Check(const ProducerPartition& key, int32_t sequence) {
    return memory_.Check(key, sequence, now_);
  }
  void Remember(const ProducerPartition& key, int32_t sequence, ErrorCode code = ErrorCode::kNotEnoughReplicas) {
    memory_.Remember(key, sequence, code, now_);
  }

  RefusalMemory memory_{std::chrono::seconds(60)};
  RefusalMemory::Clock::time_point now_ = RefusalMemory::Clock::now();
};

TEST_F(RefusalMemoryTest, letsEverythingPassAtFirst) {
  EXPECT_TRUE(memory_.empty());
  EXPECT_EQ(Check(Producer(), 0), std::nullopt);
}

TEST_F(RefusalMemoryTest, refusesWhatFollowsUntilTheRefusedBatchComesAgain) {
  Remember(Producer(), 100);
  EXPECT_FALSE(memory_.empty());
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 120), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 100), std::nullopt);
  EXPECT_TRUE(memory_.empty());
  EXPECT_EQ(Check(Producer(), 110), std::nullopt);
}

TEST_F(RefusalMemoryTest, refusesWithTheCodeOfTheFirstRefusal) {
  Remember(Producer(), 100, ErrorCode::kInvalidRecord);
  Remember(Producer(), 110, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kInvalidRecord);
  EXPECT_EQ(Check(Producer(), 100), std::nullopt) << "the first one stays the one that is waited for";
}

// When a partition changes its leader, the broker refuses all that is in flight, and the producer begins with the
// first.
TEST_F(RefusalMemoryTest, letsEarlierBatchesPassAndWaitsForTheFirstOfSeveral) {
  Remember(Producer(), 100);
  EXPECT_EQ(Check(Producer(), 90), std::nullopt);
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kNotEnoughReplicas) << "forgotten with the earlier one";
  Remember(Producer(), 90, ErrorCode::kInvalidRecord);
  EXPECT_EQ(Check(Producer(), 100), ErrorCode::kInvalidRecord);
  EXPECT_EQ(Check(Producer(), 90), std::nullopt);
  EXPECT_EQ(Check(Producer(), 100), std::nullopt);
}

TEST_F(RefusalMemoryTest, knowsThatSequenceNumbersWrap) {
  constexpr int32_t kLast = std::numeric_limits<int32_t>::max();
  Remember(Producer(), 5);
  EXPECT_EQ(Check(Producer(), kLast - 5), std::nullopt) << "it comes before";
  EXPECT_EQ(Check(Producer(), 10), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 5), std::nullopt);
  Remember(Producer(), kLast - 5);
  EXPECT_EQ(Check(Producer(), 5), ErrorCode::kNotEnoughReplicas);
}

TEST_F(RefusalMemoryTest, concernsOneProducerEpochTopicAndPartitionOnly) {
  Remember(Producer(), 100);
  ProducerPartition other = Producer();
  other.partition = 1;
  EXPECT_EQ(Check(other, 110), std::nullopt);
  other = Producer();
  other.topic = "orders";
  EXPECT_EQ(Check(other, 110), std::nullopt);
  other = Producer();
  other.cluster = "second";
  EXPECT_EQ(Check(other, 110), std::nullopt);
  EXPECT_EQ(Check(Producer(8), 110), std::nullopt);
  EXPECT_EQ(Check(Producer(7, 1), 0), std::nullopt) << "a new epoch begins anew";
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kNotEnoughReplicas);
}

TEST_F(RefusalMemoryTest, forgetsAProducerThatNeverComesBack) {
  Remember(Producer(), 100);
  now_ += std::chrono::seconds(61);
  EXPECT_EQ(Check(Producer(), 110), std::nullopt);
  EXPECT_TRUE(memory_.empty());
}

TEST_F(RefusalMemoryTest, waitsOnWhileTheProducerIsStillThere) {
  Remember(Producer(), 100);
  for (int i = 0; i < 10; ++i) {
    now_ += std::chrono::seconds(30);
    EXPECT_EQ(Check(Producer(), 110 + i), ErrorCode::kNotEnoughReplicas);
  }
}

TEST_F(RefusalMemoryTest, dropsWhatExpiredWhenSomethingNewIsRemembered) {
  for (int64_t id = 0; id < 100; ++id) Remember(Producer(id), 100);
  now_ += std::chrono::seconds(61);
  Remember(Producer(1000), 5);
  EXPECT_EQ(Check(Producer(1000), 5), std::nullopt);
  EXPECT_TRUE(memory_.empty()) << "the hundred are still remembered";
}

}  // namespace
}  // namespace kveil::guard
