// What is remembered of batches in parts, for how long, and whose.
#include "guard/state/split_memory.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace kveil::guard {
namespace {

class SplitMemoryTest : public testing::Test {
 protected:
  static SplitMemory::BatchId Batch(int64_t producer, int32_t sequence = 100, uint32_t crc = 1,
                                    std::string workload = "/shop") {
    SplitMemory::BatchId id;
    id.producer.producerId = producer;
    id.producer.producerEpoch = 0;
    id.producer.workload = std::move(workload);
    id.producer.cluster = "main";
    id.producer.topic = "orders";
    id.baseSequence = sequence;
    id.records = 10;
    id.crc = crc;
    return id;
  }
  bool Remember(const SplitMemory::BatchId& id) { return memory_.Remember(id, 1000, now_); }

  SplitMemory memory_{{.lifetime = std::chrono::seconds(60), .mostEntries = 100, .mostOfAWorkload = 30}};
  SplitMemory::Clock::time_point now_ = SplitMemory::Clock::now();
};

TEST_F(SplitMemoryTest, KnowsABatchThatWasTakenAndHowItWasCut) {
  EXPECT_TRUE(Remember(Batch(7)));
  EXPECT_FALSE(memory_.Find(Batch(7), now_)->isTaken);
  EXPECT_EQ(memory_.Find(Batch(7), now_)->partSize, 1000u);
  memory_.Taken(Batch(7), 900, now_);
  EXPECT_EQ(memory_.Find(Batch(7), now_)->baseOffset, 900);
  EXPECT_EQ(memory_.Find(Batch(8), now_), std::nullopt);
}

TEST_F(SplitMemoryTest, ForgetsABatchOnlyIfItWasSentOnce) {
  EXPECT_TRUE(Remember(Batch(7)));
  memory_.Forget(Batch(7), now_);
  EXPECT_TRUE(memory_.empty());
  EXPECT_TRUE(Remember(Batch(7)));
  EXPECT_TRUE(Remember(Batch(7)));
  memory_.Forget(Batch(7), now_);
  EXPECT_TRUE(memory_.Find(Batch(7, 100, 2), now_)->isAnothers) << "a part of it may be in the log from the first time";
}

TEST_F(SplitMemoryTest, IsEmptyAgainAfterProducersThatNeverCameBack) {
  for (int64_t producer = 0; producer < 30; ++producer) EXPECT_TRUE(Remember(Batch(producer)));
  now_ += std::chrono::seconds(61);
  for (int i = 0; i < 10 && !memory_.empty(); ++i) EXPECT_EQ(memory_.Find(Batch(1000), now_), std::nullopt);
  EXPECT_TRUE(memory_.empty());
}

TEST_F(SplitMemoryTest, LetsNobodyPushOutTheBatchesOfOthers) {
  EXPECT_TRUE(Remember(Batch(1, 100, 1, "/other")));
  for (int64_t producer = 2; producer < 32; ++producer) EXPECT_TRUE(Remember(Batch(producer)));
  EXPECT_FALSE(Remember(Batch(32)));
  EXPECT_TRUE(Remember(Batch(31, 110))) << "its producer is remembered";
  EXPECT_TRUE(Remember(Batch(33, 100, 1, "/third")));
  EXPECT_NE(memory_.Find(Batch(1, 100, 1, "/other"), now_), std::nullopt);
}

// Producer ids are small numbers that anybody can name.
TEST_F(SplitMemoryTest, ConcernsItsWorkloadOnly) {
  EXPECT_TRUE(Remember(Batch(7, 100, 1, "/attacker")));
  memory_.Taken(Batch(7, 100, 1, "/attacker"), 900, now_);
  EXPECT_EQ(memory_.Find(Batch(7), now_), std::nullopt) << "taken for sent though it was not";
  EXPECT_TRUE(Remember(Batch(7, 200, 1, "/attacker")));
  EXPECT_EQ(memory_.Find(Batch(7, 200, 2), now_), std::nullopt);
  EXPECT_TRUE(memory_.Find(Batch(7, 200, 2, "/attacker"), now_)->isAnothers);
}

}  // namespace
}  // namespace kveil::guard
