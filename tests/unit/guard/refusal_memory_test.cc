// An idempotent producer's batches stay in order after one was refused.
#include "guard/state/refusal_memory.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>

namespace kveil::guard {
namespace {

using kafka::ErrorCode;

class RefusalMemoryTest : public testing::Test {
 protected:
  static ProducerPartition Producer(int64_t id = 7, int16_t epoch = 0, std::string workload = "/shop") {
    ProducerPartition key;
    key.producerId = id;
    key.producerEpoch = epoch;
    key.workload = std::move(workload);
    key.cluster = "main";
    key.topic = "clicks";
    return key;
  }
  std::optional<ErrorCode> Check(const ProducerPartition& key, int32_t sequence) {
    return memory_.Check(key, sequence, now_);
  }
  bool Remember(const ProducerPartition& key, int32_t sequence, ErrorCode code = ErrorCode::kNotEnoughReplicas) {
    return memory_.Remember(key, sequence, code, now_);
  }

  RefusalMemory memory_{{.lifetime = std::chrono::seconds(60), .mostEntries = 1000, .mostOfAWorkload = 300}};
  RefusalMemory::Clock::time_point now_ = RefusalMemory::Clock::now();
};

TEST_F(RefusalMemoryTest, LetsEverythingPassAtFirst) {
  EXPECT_TRUE(memory_.empty());
  EXPECT_EQ(Check(Producer(), 0), std::nullopt);
}

TEST_F(RefusalMemoryTest, RefusesWhatFollowsUntilTheRefusedBatchComesAgain) {
  Remember(Producer(), 100);
  EXPECT_FALSE(memory_.empty());
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 120), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 100), std::nullopt);
  EXPECT_TRUE(memory_.empty());
  EXPECT_EQ(Check(Producer(), 110), std::nullopt);
}

TEST_F(RefusalMemoryTest, RefusesWithTheCodeOfTheFirstRefusal) {
  Remember(Producer(), 100, ErrorCode::kInvalidRecord);
  Remember(Producer(), 110, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kInvalidRecord);
  EXPECT_EQ(Check(Producer(), 100), std::nullopt) << "the first one stays the one that is waited for";
}

// When a partition changes its leader, the broker refuses all that is in flight, and the producer begins with the
// first.
TEST_F(RefusalMemoryTest, LetsEarlierBatchesPassAndWaitsForTheFirstOfSeveral) {
  Remember(Producer(), 100);
  EXPECT_EQ(Check(Producer(), 90), std::nullopt);
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kNotEnoughReplicas) << "forgotten with the earlier one";
  Remember(Producer(), 90, ErrorCode::kInvalidRecord);
  EXPECT_EQ(Check(Producer(), 100), ErrorCode::kInvalidRecord);
  EXPECT_EQ(Check(Producer(), 90), std::nullopt);
  EXPECT_EQ(Check(Producer(), 100), std::nullopt);
}

TEST_F(RefusalMemoryTest, KnowsThatSequenceNumbersWrap) {
  constexpr int32_t kLast = std::numeric_limits<int32_t>::max();
  Remember(Producer(), 5);
  EXPECT_EQ(Check(Producer(), kLast - 5), std::nullopt) << "it comes before";
  EXPECT_EQ(Check(Producer(), 10), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(), 5), std::nullopt);
  Remember(Producer(), kLast - 5);
  EXPECT_EQ(Check(Producer(), 5), ErrorCode::kNotEnoughReplicas);
}

TEST_F(RefusalMemoryTest, ConcernsOneWorkloadProducerEpochTopicAndPartitionOnly) {
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
  EXPECT_EQ(Check(Producer(7, 0, "/other"), 110), std::nullopt);
  EXPECT_EQ(Check(Producer(7, 1), 0), std::nullopt) << "a new epoch begins anew";
  EXPECT_EQ(Check(Producer(), 110), ErrorCode::kNotEnoughReplicas);
}

TEST_F(RefusalMemoryTest, ForgetsAProducerThatNeverComesBack) {
  Remember(Producer(), 100);
  now_ += std::chrono::seconds(61);
  EXPECT_EQ(Check(Producer(), 110), std::nullopt);
  EXPECT_TRUE(memory_.empty());
}

TEST_F(RefusalMemoryTest, WaitsOnWhileTheProducerIsStillThere) {
  Remember(Producer(), 100);
  for (int i = 0; i < 10; ++i) {
    now_ += std::chrono::seconds(30);
    EXPECT_EQ(Check(Producer(), 110 + i), ErrorCode::kNotEnoughReplicas);
  }
}

// Whoever else produces is asked for, and with each question some of what has expired goes.
TEST_F(RefusalMemoryTest, IsEmptyAgainAfterProducersThatNeverCameBack) {
  for (int64_t id = 0; id < 100; ++id) EXPECT_TRUE(Remember(Producer(id), 100));
  now_ += std::chrono::seconds(61);
  for (int i = 0; i < 30 && !memory_.empty(); ++i) EXPECT_EQ(Check(Producer(1000), i), std::nullopt);
  EXPECT_TRUE(memory_.empty());
}

// A refusal that is forgotten loses records of whoever it was: the one who has too many gets no more.
TEST_F(RefusalMemoryTest, LetsNobodyPushOutTheRefusalsOfOthers) {
  EXPECT_TRUE(Remember(Producer(1, 0, "/other"), 100));
  for (int64_t id = 2; id < 302; ++id) EXPECT_TRUE(Remember(Producer(id), 100)) << id;
  EXPECT_FALSE(Remember(Producer(302), 100)) << "more than its share";
  EXPECT_TRUE(Remember(Producer(301), 90)) << "it has this one already";
  EXPECT_EQ(Check(Producer(1, 0, "/other"), 110), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(2), 110), ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(Check(Producer(2), 100), std::nullopt);
  EXPECT_TRUE(Remember(Producer(302), 100)) << "another one has come again";
  for (int64_t id = 1000; id < 1699; ++id) {
    EXPECT_TRUE(Remember(Producer(id, 0, std::to_string(id % 3)), 100));
  }
  EXPECT_FALSE(Remember(Producer(2000, 0, "/last"), 100)) << "all are taken";
  EXPECT_EQ(Check(Producer(1, 0, "/other"), 110), ErrorCode::kNotEnoughReplicas);
}

}  // namespace
}  // namespace kveil::guard
