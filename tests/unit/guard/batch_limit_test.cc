// What sealing takes, opening takes: a batch that no reader could ever open would stop all of them for ever.
#include <gtest/gtest.h>

#include <limits>

#include "guard_fixture.h"

namespace kveil::guard {
namespace {

constexpr size_t kLimit = 8'000;

class BatchLimitTest : public BatchTest {
 protected:
  // Records that decompress to about kLimit - `below` bytes, so that all that compresses is only one letter.
  static std::vector<TestRecord> RecordsOf(size_t count, size_t below) {
    const size_t size = (kLimit - below) / count;
    std::vector<TestRecord> records;
    for (size_t i = 0; i < count; ++i) {
      const std::string head = i % 2 == 0 ? R"({"user": "anna", "page": ")" : R"({"user": "bert", "page": ")";
      records.push_back(Record("k", head + std::string(size - std::min(size, head.size() + 12), 'z') + "\"}"));
    }
    return records;
  }
  // Seals batches around the limit, and opens with the same limit what was sealed. Returns how many of each there were.
  struct Tried {
    int sealed = 0;
    int refused = 0;
  };
  void Try(kafka::Codec codec, size_t count, size_t topicLimit, Tried& tried) {
    for (size_t below = 0; below < 2 * kMostGrowth * count + 200; below += 1 + below / 10) {
      const std::vector<TestRecord> records = RecordsOf(count, below);
      const ByteBuffer produced = ProducedBatch(records, codec);
      SealTask task = TaskToSeal(produced);
      task.batchLimit = kLimit;
      task.topicLimit = topicLimit;
      ByteBuffer sealed;
      const SealOutcome outcome = Seal(task, sealed);
      if (outcome.kind == SealOutcome::Kind::kRefused) {
        ++tried.refused;
        EXPECT_EQ(outcome.refusal.reason, observe::RefuseReason::kTooLarge);
        continue;
      }
      ASSERT_EQ(outcome.kind, SealOutcome::Kind::kSealed);
      ++tried.sealed;
      OpenTask open = TaskToOpen();
      open.batchLimit = kLimit;
      const policy::EntrySet readers = Readers(open);
      if (topic_->rules != nullptr) open.readers = &readers;
      open.masking.denied = policy::IsKept(topic_->onDenied);
      open.reader = &reader_;
      ByteBuffer opened;
      const OpenOutcome result = OpenTo(open, Padded(sealed), opened);
      ASSERT_EQ(result.kind, OpenOutcome::Kind::kRewritten)
          << result.problem << ": " << count << " records, codec " << static_cast<int>(codec) << ", below " << below;
      EXPECT_EQ(Read(opened).records.size(), count);
    }
  }
  policy::EntrySet Readers(const OpenTask& open) {
    topic_ = open.topic;
    policy::EntrySet readers;
    (void)policy::ReadableBy(*open.topic, reader_, readers);
    return readers;
  }

  identity::Workload reader_;
  const policy::TopicPolicy* topic_ = nullptr;
};

TEST_F(BatchLimitTest, WhatIsSealedCanBeOpened) {
  const std::string seal = R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"})";
  for (const std::string& rest : {
           std::string(R"(}, "read": [{"any": true}]})"),
           std::string(R"(, "compress": "never"}, "read": [{"any": true}]})"),
           std::string(R"(}, "onDenied": "sealed", "read": [{"any": true, "where": {"users": ["anna"]}}]})"),
           std::string(R"(}, "onDenied": "sealed",
                        "read": [{"any": true, "where": {"value": {"pointer": "/user", "equals": "anna"}}}]})"),
           R"(}, "onDenied": {"mask": ")" + std::string(900, 'x') +
               R"("}, "read": [{"any": true, "where": {"value": {"pointer": "/user", "equals": "anna"}}}]})",
       }) {
    SCOPED_TRACE(rest);
    UsePolicy(seal + rest);
    for (const size_t count : {size_t{1}, size_t{20}}) {
      Tried tried;
      ASSERT_NO_FATAL_FAILURE(Try(kafka::Codec::kZstd, count, TopicLimits::kDefault, tried));
      EXPECT_GT(tried.sealed, 5);
      EXPECT_GT(tried.refused, 5);
    }
  }
}

TEST_F(BatchLimitTest, WhatIsSealedCanBeOpenedWithEachCodec) {
  UseUserKeys();
  for (const kafka::Codec codec : {kafka::Codec::kGzip, kafka::Codec::kSnappy, kafka::Codec::kLz4}) {
    Tried tried;
    ASSERT_NO_FATAL_FAILURE(Try(codec, 2, TopicLimits::kDefault, tried));
    EXPECT_GT(tried.sealed, 5);
    EXPECT_GT(tried.refused, 5);
  }
}

// One that is not compressed has no limit, unless it has to be compressed to be small enough for its topic.
TEST_F(BatchLimitTest, OfARecordThatIsCompressedToFitItsTopic) {
  UseTopicKey();
  for (size_t size = kLimit - 300; size < kLimit + 300; size += 7) {
    const ByteBuffer produced = ProducedBatch({Record("k", std::string(size, 'z'))});
    SealTask task = TaskToSeal(produced);
    task.batchLimit = kLimit;
    task.topicLimit = produced.size();
    const ByteBuffer sealed = Sealed(task);
    OpenTask open = TaskToOpen();
    open.batchLimit = kLimit;
    EXPECT_EQ(Opened(open, Padded(sealed)).records.size(), 1u) << size;
  }
}

}  // namespace
}  // namespace kveil::guard
