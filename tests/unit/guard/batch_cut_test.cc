// Into which batches a batch is sealed depends on its bytes and its topic's limit, and on nothing else: the broker
// knows one that is sent again by the sequence numbers of its parts.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "guard/stages/validate.h"
#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using Counts = std::vector<int32_t>;

class BatchCutTest : public BatchTest {
 protected:
  BatchCutTest() { UseTopicKey(); }

  // Text that compresses as JSON does, or noise.
  std::string Value(size_t size) {
    std::string value;
    const bool isNoise = random_() % 3 == 0;
    while (value.size() < size) {
      if (isNoise) {
        value.push_back(static_cast<char>(random_()));
      } else {
        StrAppend(&value, R"({"user":")", random_() % 1000, R"(","page":"/home"},)");
      }
    }
    value.resize(size);
    return value;
  }
  // Of about that many bytes before compression.
  ByteBuffer RandomBatch(size_t bytes, kafka::Codec codec) {
    const size_t typical = 1 + random_() % 2000;
    std::vector<TestRecord> records;
    for (size_t size = 0; size < bytes;) {
      TestRecord& record = records.emplace_back(Record(StrCat("key-", records.size()), std::nullopt));
      if (random_() % 20 != 0) record.value = Value(random_() % (2 * typical));
      if (random_() % 4 == 0) record.headers = {{"trace", Value(random_() % 30)}};
      size += 20 + record.value.value_or("").size();
    }
    return ProducedBatch(std::move(records), codec);
  }
  Counts CutOf(Bytes batch, size_t limit) {
    SealTask task = TaskToSeal(batch);
    task.topicLimit = limit;
    ByteBuffer sealed;
    const SealOutcome outcome = Seal(task, sealed);
    EXPECT_EQ(outcome.kind, SealOutcome::Kind::kSealed) << outcome.refusal.message;
    Counts counts;
    for (const SealedPart& part : outcome.parts) {
      counts.push_back(part.records);
      EXPECT_TRUE(part.records == 1 || part.size <= limit) << part.size << " " << limit;
    }
    sealed_ = std::move(sealed);
    return counts;
  }
  // Of all records that CutOf sealed last, which were not compressed.
  std::set<crypto::Suite> Suites() const {
    std::set<crypto::Suite> suites;
    kafka::BatchReader batches(sealed_);
    for (kafka::BatchView batch; batches.Next(batch) == kafka::BatchReader::Result::kBatch;) {
      kafka::RecordReader reader(batch.payload, batch.header.count);
      for (kafka::RecordView record; reader.Next(record);) {
        const auto envelope = crypto::ParseEnvelopeHeader(*FindEnvelopeHeaders(record).first.value);
        EXPECT_TRUE(envelope.ok()) << envelope.status();
        if (envelope.ok()) suites.insert(envelope->suite);
      }
    }
    return suites;
  }
  // Other keys, salts and ciphers, and nothing remembered.
  void Restart() {
    scratch_.reset();
    service_.reset();
    service_ = Open();
    scratch_ = std::make_unique<WorkerScratch>(*service_);
  }

  static constexpr kafka::Codec kCodecs[] = {kafka::Codec::kNone, kafka::Codec::kGzip, kafka::Codec::kSnappy,
                                             kafka::Codec::kLz4, kafka::Codec::kZstd};
  std::mt19937 random_{20261128};
  ByteBuffer sealed_;
};

TEST_F(BatchCutTest, IsTheSameWithEachSaltAndAfterARestart) {
  size_t cut = 0;
  for (const kafka::Codec codec : kCodecs) {
    for (const size_t bytes : {3'000, 20'000, 60'000}) {
      const ByteBuffer batch = Padded(RandomBatch(bytes, codec));
      // Where it just fits, and where it just does not.
      const size_t limit = batch.size() + random_() % (bytes / 4);
      const Counts first = CutOf(batch, limit);
      if (first.size() > 1) ++cut;
      for (int i = 0; i < 200; ++i) {
        if (i % 50 == 49) Restart();
        ASSERT_EQ(CutOf(batch, limit), first) << kafka::CodecName(codec) << " " << bytes << " " << limit;
      }
    }
  }
  EXPECT_GT(cut, 8u);
}

// Headers of records under batch keys are two bytes shorter.
TEST_F(BatchCutTest, IsTheSameWithEachSuite) {
  UseUserKeys();
  std::vector<TestRecord> records;
  for (int i = 0; i < 60; ++i) records.push_back(ClickOf("anna"));
  const ByteBuffer batch = Padded(ProducedBatch(std::move(records)));
  const auto cutWith = [&](crypto::Suite suite, size_t limit) {
    keys::CachedKey* const key =
        scratch_->keyCache.FindForSealing({keys::Scope::kUser, Topic()->seal->keyspace, "anna"});
    key->sealed = suite == crypto::Suite::kBatchKey ? keys::KeyCache::kMostUnderAPeriodKey : 0;
    Counts counts = CutOf(batch, limit);
    EXPECT_EQ(Suites(), std::set<crypto::Suite>{suite}) << limit;
    return counts;
  };
  CutOf(batch, batch.size());
  for (size_t limit = batch.size(); limit < batch.size() + 60 * 64; ++limit) {
    const Counts first = cutWith(crypto::Suite::kPeriodKey, limit);
    ASSERT_EQ(cutWith(crypto::Suite::kBatchKey, limit), first) << limit;
  }
}

// Compressed ciphertext is a few bytes longer or shorter with each salt: at some limit, that would make the difference.
TEST_F(BatchCutTest, IsTheSameAtEachLimitAtWhichCompressionWouldDecide) {
  for (const kafka::Codec codec : {kafka::Codec::kNone, kafka::Codec::kLz4, kafka::Codec::kZstd}) {
    std::vector<TestRecord> records;
    for (int i = 0; i < 30; ++i) records.push_back(Record("k", Value(200)));
    const ByteBuffer batch = Padded(ProducedBatch(std::move(records), codec));
    for (size_t limit = batch.size(); limit < batch.size() + 30 * 64; limit += 3) {
      const Counts first = CutOf(batch, limit);
      for (int i = 0; i < 5; ++i) ASSERT_EQ(CutOf(batch, limit), first) << kafka::CodecName(codec) << " " << limit;
    }
  }
}

// Whoever raises the limit of a topic, or lowers it again, does not meet batches that are under way.
TEST_F(BatchCutTest, IsTheSameForEachLimitFromKafkasDefaultOn) {
  constexpr size_t kDefault = TopicLimits::kDefault;
  for (const kafka::Codec codec : kCodecs) {
    for (const size_t bytes : {900'000, 1'040'000, 3'000'000}) {
      const ByteBuffer batch = Padded(RandomBatch(bytes, codec));
      const size_t least = std::max(kDefault, batch.size());
      const Counts first = CutOf(batch, least);
      for (const size_t limit : {least + 1, 2 * least, size_t{10'000'000}, size_t{2'000'000'000}}) {
        ASSERT_EQ(CutOf(batch, limit), first) << kafka::CodecName(codec) << " " << bytes << " " << limit;
      }
    }
  }
}

TEST_F(BatchCutTest, StaysAsItWasSettledWhenASmallLimitIsRaised) {
  const ByteBuffer batch = Padded(RandomBatch(60'000, kafka::Codec::kNone));
  SealTask task = TaskToSeal(batch);
  task.topicLimit = batch.size();
  ByteBuffer sealed;
  const SealOutcome first = Seal(task, sealed);
  ASSERT_GT(first.parts.size(), 1u);
  task.topicLimit = 1'000'000;
  ASSERT_EQ(Seal(task, sealed).parts.size(), 1u);
  task.partSize = first.partSize;
  const SealOutcome again = Seal(task, sealed);
  ASSERT_EQ(again.parts.size(), first.parts.size());
  for (size_t i = 0; i < first.parts.size(); ++i) EXPECT_EQ(again.parts[i].records, first.parts[i].records);
}

}  // namespace
}  // namespace kveil::guard
