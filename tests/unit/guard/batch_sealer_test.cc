// What sealing refuses, in which words, and how a sealed batch stays within the broker's limits.
#include "guard/seal/batch_sealer.h"

#include <gtest/gtest.h>

#include <random>

#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using observe::RefuseReason;

constexpr size_t kTopicLimit = 1'048'588;  // Kafka's default of max.message.bytes

class SealedBatchTest : public BatchTest {
 protected:
  // Everything that goes back to the producer and into the log.
  static std::string TextOf(const Refusal& refusal) {
    std::string text = refusal.message;
    for (const Refusal::Record& record : refusal.records) text += "|" + record.message;
    return text;
  }
  void ExpectRefused(Bytes records, RefuseReason reason) {
    ByteBuffer out;
    const SealOutcome outcome = Seal(TaskToSeal(records), out);
    ASSERT_EQ(outcome.kind, SealOutcome::Kind::kRefused);
    EXPECT_EQ(outcome.refusal.code, ErrorCode::kInvalidRecord);
    EXPECT_EQ(outcome.refusal.reason, reason);
    EXPECT_TRUE(outcome.refusal.message.starts_with("kveil: ")) << outcome.refusal.message;
    EXPECT_TRUE(out.empty());
  }
  static crypto::EnvelopeHeader EnvelopeOf(const TestRecord& record) {
    const Text& header = record.headers.back().second;
    const auto parsed = crypto::ParseEnvelopeHeader(AsBytes(*header));
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return parsed.ok() ? *parsed : crypto::EnvelopeHeader();
  }
};

TEST_F(SealedBatchTest, RefusesARecordThatCarriesAnEnvelopeAlready) {
  UseTopicKey();
  std::vector<TestRecord> records = {Record("a", "clear"), Record("b", "sealed elsewhere"), Record("c", std::nullopt)};
  records.at(1).headers = {{"kveil", "forged"}};
  records.at(2).headers = {{"trace", "1"}, {"kveil", std::nullopt}};
  const SealOutcome outcome = Seal(ProducedBatch(records));
  ASSERT_EQ(outcome.kind, SealOutcome::Kind::kRefused);
  EXPECT_EQ(outcome.refusal.code, ErrorCode::kInvalidRecord);
  EXPECT_EQ(outcome.refusal.reason, RefuseReason::kAlreadySealed);
  EXPECT_EQ(outcome.refusal.recordCount, 3u);
  ASSERT_EQ(outcome.refusal.records.size(), 2u);
  EXPECT_EQ(outcome.refusal.records[0].index, 1);
  EXPECT_EQ(outcome.refusal.records[1].index, 2);
}

TEST_F(SealedBatchTest, NamesEachRecordThatThePolicyCannotApplyTo) {
  UseUserKeys();
  const ByteBuffer produced =
      ProducedBatch({ClickOf("anna"), Record("k", R"({"page": "no-user-here"})"), ClickOf("bert"),
                     Record("k", "plain text"), Record("k", R"({"user": null})"), Record("k", std::nullopt)});
  const SealOutcome outcome = Seal(produced);
  ASSERT_EQ(outcome.kind, SealOutcome::Kind::kRefused);
  EXPECT_EQ(outcome.refusal.code, ErrorCode::kInvalidRecord);
  EXPECT_EQ(outcome.refusal.reason, RefuseReason::kNoUser);
  EXPECT_EQ(outcome.refusal.recordCount, 6u);
  std::vector<int32_t> indices;
  for (const Refusal::Record& record : outcome.refusal.records) indices.push_back(record.index);
  EXPECT_EQ(indices, (std::vector<int32_t>{1, 3, 4}));
  EXPECT_NE(outcome.refusal.records[1].message, outcome.refusal.records[0].message);
}

TEST_F(SealedBatchTest, NeverQuotesARecordInARefusal) {
  UseUserKeys();
  std::vector<TestRecord> records = {Record("secret-key", R"({"page": "secret-value"})"),
                                     Record("secret-key", "secret-value"), Record("secret-key", Click("secret-user"))};
  records.at(2).headers = {{"kveil", "secret-header"}};
  for (const TestRecord& record : records) {
    const SealOutcome outcome = Seal(ProducedBatch({record}));
    ASSERT_EQ(outcome.kind, SealOutcome::Kind::kRefused);
    EXPECT_EQ(TextOf(outcome.refusal).find("secret"), std::string::npos) << TextOf(outcome.refusal);
  }
}

TEST_F(SealedBatchTest, ListsABoundedNumberOfBadRecords) {
  UseUserKeys();
  const SealOutcome outcome = Seal(ProducedBatch(std::vector<TestRecord>(5000, Record("k", "{}"))));
  ASSERT_EQ(outcome.kind, SealOutcome::Kind::kRefused);
  EXPECT_EQ(outcome.refusal.recordCount, 5000u);
  EXPECT_EQ(outcome.refusal.records.size(), 100u);
}

TEST_F(SealedBatchTest, RefusesABatchWithAWrongChecksum) {
  UseTopicKey();
  ByteBuffer produced = ProducedBatch({Record("k", "value")});
  produced.back() ^= 1;
  ExpectRefused(produced, RefuseReason::kBadChecksum);
}

TEST_F(SealedBatchTest, RefusesAControlBatchFromAClient) {
  UseTopicKey();
  TestBatch batch;
  batch.attributes = kafka::BatchHeader::kControlBit;
  ExpectRefused(ProducedBatch({Record("k", "value")}, kafka::Codec::kNone, batch), RefuseReason::kMalformed);
}

TEST_F(SealedBatchTest, RefusesTheOldMessageFormats) {
  UseTopicKey();
  for (const uint8_t magic : {0, 1}) {
    ByteBuffer produced = ProducedBatch({Record("k", "value")});
    produced[16] = magic;
    ExpectRefused(produced, RefuseReason::kOldFormat);
  }
}

TEST_F(SealedBatchTest, RefusesWhatIsNotExactlyOneBatch) {
  UseTopicKey();
  const ByteBuffer one = ProducedBatch({Record("k", "value")});
  ByteBuffer two = one;
  two.insert(two.end(), one.begin(), one.end());
  ExpectRefused(two, RefuseReason::kMalformed);
  ByteBuffer trailing = one;
  trailing.push_back(0);
  ExpectRefused(trailing, RefuseReason::kMalformed);
  for (const size_t size : {size_t{1}, size_t{16}, size_t{60}, one.size() - 1}) {
    ExpectRefused(Bytes(one).first(size), RefuseReason::kMalformed);
  }
}

TEST_F(SealedBatchTest, RefusesACountThatDoesNotFitTheRecords) {
  UseTopicKey();
  for (const int32_t count : {0, 1, 3, -1, 2'000'000'000}) {
    TestBatch batch;
    batch.count = count;
    batch.lastOffsetDelta = 1;
    const ByteBuffer produced = BatchBytes(batch, RecordsBytes({Record("a", "1"), Record("b", "2")}));
    ByteBuffer out;
    const SealOutcome outcome = Seal(TaskToSeal(produced), out);
    EXPECT_EQ(outcome.kind, SealOutcome::Kind::kRefused) << count;
    EXPECT_TRUE(out.empty());
  }
}

TEST_F(SealedBatchTest, RefusesABatchThatDecompressesBeyondTheLimit) {
  UseTopicKey();
  const ByteBuffer produced = ProducedBatch({Record("k", std::string(200'000, 'a'))}, kafka::Codec::kZstd);
  SealTask task = TaskToSeal(produced);
  task.batchLimit = 100'000;
  ByteBuffer out;
  const SealOutcome outcome = Seal(task, out);
  ASSERT_EQ(outcome.kind, SealOutcome::Kind::kRefused);
  EXPECT_EQ(outcome.refusal.reason, RefuseReason::kTooLarge);
}

// As brokers refuse a compressed batch. Of others they do not look, and its readers would miss the records behind it.
TEST_F(SealedBatchTest, RefusesOffsetsThatAreNotCountedUp) {
  UseTopicKey();
  for (const std::pair<int32_t, int32_t>& deltas :
       {std::pair(0, 6), {0, 0}, {0, -2}, {1, 2}, {1, 0}, {0, 2'000'000'000}}) {
    std::vector<TestRecord> records = {Record("a", "1"), Record("b", "2")};
    records[0].offsetDelta = deltas.first;
    records[1].offsetDelta = deltas.second;
    for (const kafka::Codec codec : {kafka::Codec::kNone, kafka::Codec::kGzip}) {
      TestBatch batch;
      batch.count = 2;
      batch.lastOffsetDelta = 1;
      batch.attributes = static_cast<int16_t>(codec);
      ByteBuffer payload;
      ASSERT_TRUE(kafka::Compress(codec, RecordsBytes(records), payload).ok());
      ExpectRefused(Padded(BatchBytes(batch, payload)), RefuseReason::kMalformed);
    }
  }
}

TEST_F(SealedBatchTest, RefusesADamagedCompressedBatch) {
  UseTopicKey();
  TestBatch batch;
  batch.count = 1;
  for (const int16_t codec : {1, 2, 3, 4, 5, 7}) {
    batch.attributes = codec;
    ExpectRefused(BatchBytes(batch, AsBytes("this is no compressed data at all")), RefuseReason::kMalformed);
  }
}

TEST_F(SealedBatchTest, AsksForEachMissingKeyOnceAndWritesNothingYet) {
  UseUserKeys();
  const ByteBuffer produced =
      ProducedBatch({ClickOf("anna"), ClickOf("bert"), ClickOf("anna"), Record("t", std::nullopt), ClickOf("bert")});
  ByteBuffer out = {1, 2, 3};
  const SealOutcome outcome = SealBatch(TaskToSeal(produced), *scratch_, out);
  ASSERT_EQ(outcome.kind, SealOutcome::Kind::kNeeds);
  ASSERT_EQ(outcome.needs.keys.scopes.size(), 2u);
  EXPECT_EQ(outcome.needs.keys.scopes[0].subject, "anna");
  EXPECT_EQ(outcome.needs.keys.scopes[1].subject, "bert");
  EXPECT_EQ(outcome.needs.keys.scopes[0].keyspace, "clicks");
  EXPECT_EQ(out, (ByteBuffer{1, 2, 3}));
}

TEST_F(SealedBatchTest, ComesBehindWhatTheBufferHoldsAlready) {
  UseTopicKey();
  const ByteBuffer produced = ProducedBatch({Record("k", "value")});
  ByteBuffer out = {1, 2, 3};
  ASSERT_EQ(Seal(TaskToSeal(produced), out).kind, SealOutcome::Kind::kSealed);
  EXPECT_EQ(out[2], 3);
  EXPECT_EQ(Opened(Bytes(out).subspan(3)).records.at(0).value, "value");
}

TEST_F(SealedBatchTest, CountsItsRecordsUnderOneSalt) {
  UseUserKeys();
  const ReadBatch sealed = Read(Sealed({ClickOf("anna"), Record("t", std::nullopt), ClickOf("bert"), ClickOf("anna")}));
  const crypto::EnvelopeHeader first = EnvelopeOf(sealed.records.at(0));
  const crypto::EnvelopeHeader third = EnvelopeOf(sealed.records.at(2));
  const crypto::EnvelopeHeader fourth = EnvelopeOf(sealed.records.at(3));
  EXPECT_EQ(first.recordIndex, 0u);
  EXPECT_EQ(third.recordIndex, 2u);
  EXPECT_EQ(fourth.recordIndex, 3u);
  EXPECT_EQ(first.salt, third.salt);
  EXPECT_EQ(first.keyId, fourth.keyId);
  EXPECT_FALSE(first.keyId == third.keyId);
}

TEST_F(SealedBatchTest, HidesWhichBatchesBelongToOneUser) {
  UseUserKeys();
  const crypto::EnvelopeHeader first = EnvelopeOf(Read(Sealed({ClickOf("anna")})).records[0]);
  const crypto::EnvelopeHeader second = EnvelopeOf(Read(Sealed({ClickOf("anna")})).records[0]);
  EXPECT_NE(first.flags & crypto::kFlagMaskedKeyId, 0);
  EXPECT_FALSE(first.keyId == second.keyId);
}

TEST_F(SealedBatchTest, NamesATopicsKeyOpenly) {
  UseTopicKey();
  const crypto::EnvelopeHeader first = EnvelopeOf(Read(Sealed({Record("k", "1")})).records[0]);
  const crypto::EnvelopeHeader second = EnvelopeOf(Read(Sealed({Record("k", "2")})).records[0]);
  EXPECT_EQ(first.flags & crypto::kFlagMaskedKeyId, 0);
  EXPECT_EQ(first.keyId, second.keyId);
}

TEST_F(SealedBatchTest, SharesAKeyWithinAKeyspaceOnly) {
  UsePolicy(R"({"name": "clicks", "seal": {"scope": "user", "user": {"key": true}, "keyspace": "people"}, "read": []},
               {"name": "orders", "seal": {"scope": "user", "user": {"key": true}, "keyspace": "people"}, "read": []},
               {"name": "other", "seal": {"scope": "user", "user": {"key": true}}, "read": []})");
  const auto unmasked = [this](std::string_view topic) {
    const ByteBuffer produced = ProducedBatch({Record("anna", "value")});
    const crypto::EnvelopeHeader envelope = EnvelopeOf(Read(Sealed(TaskToSeal(produced, topic))).records[0]);
    return scratch_->keyCache.mask().Unmask(envelope.keyId, envelope.salt);
  };
  EXPECT_EQ(unmasked("clicks"), unmasked("orders"));
  EXPECT_FALSE(unmasked("clicks") == unmasked("other"));
}

TEST_F(SealedBatchTest, CompressesValuesWhereTheProducerCompresses) {
  UseTopicKey();
  const std::string value(5000, 'a');
  const ReadBatch compressed = Read(Sealed(ProducedBatch({Record("k", value)}, kafka::Codec::kGzip)));
  EXPECT_NE(EnvelopeOf(compressed.records.at(0)).flags & crypto::kFlagCompressedValue, 0);
  EXPECT_LT(compressed.records.at(0).value->size(), 200u);
  const ReadBatch plain = Read(Sealed(ProducedBatch({Record("k", value)})));
  EXPECT_EQ(EnvelopeOf(plain.records.at(0)).flags & crypto::kFlagCompressedValue, 0);
  EXPECT_EQ(plain.records.at(0).value->size(), value.size() + crypto::kTagSize);
}

TEST_F(SealedBatchTest, NeverCompressesValuesWhereThePolicySaysSo) {
  UsePolicy(R"({"name": "clicks", "seal": {"scope": "topic", "compress": "never"}, "read": [{"any": true}]})");
  const std::string value(5000, 'a');
  const ReadBatch sealed = Read(Sealed(ProducedBatch({Record("k", value)}, kafka::Codec::kGzip)));
  EXPECT_EQ(sealed.records.at(0).value->size(), value.size() + crypto::kTagSize);
}

// The first values of a batch tell, for those behind them.
TEST_F(SealedBatchTest, CompressesValuesWhereThatSavesAQuarterOfTheFirst) {
  const auto compressed = [this](size_t repeated, std::string_view compress) {
    UsePolicy(StrCat(R"({"name": "clicks", "seal": {"scope": "topic", "compress": ")", compress,
                     R"("}, "read": [{"any": true}]})"));
    std::minstd_rand random;
    std::vector<TestRecord> records;
    for (int i = 0; i < 20; ++i) {
      std::string value(repeated, 'a');
      while (value.size() < 400) value += static_cast<char>(random());
      records.push_back(Record("k", value));
    }
    int count = 0;
    for (const TestRecord& record : Read(Sealed(ProducedBatch(records, kafka::Codec::kLz4))).records) {
      count += (EnvelopeOf(record).flags & crypto::kFlagCompressedValue) != 0 ? 1 : 0;
    }
    return count;
  };
  EXPECT_EQ(compressed(200, "auto"), 20);
  EXPECT_EQ(compressed(80, "auto"), 8);
  EXPECT_EQ(compressed(80, "always"), 20);
  EXPECT_EQ(compressed(200, "never"), 0);
}

TEST_F(SealedBatchTest, CompressesLargeValuesWhateverSmallOnesAreLike) {
  UseTopicKey();
  std::vector<TestRecord> records(10, Record("k", "beat"));
  records.push_back(Record("k", std::string(5000, 'a')));
  records.push_back(Record("k", std::string(1000, 'a')));
  const ReadBatch sealed = Read(Sealed(ProducedBatch(records, kafka::Codec::kLz4)));
  EXPECT_LT(sealed.records.at(10).value->size(), 200u);
  EXPECT_EQ(sealed.records.at(11).value->size(), 1000 + crypto::kTagSize);
}

TEST_F(SealedBatchTest, LeavesAValueThatWouldNotShrinkUncompressed) {
  UseTopicKey();
  const ReadBatch sealed = Read(Sealed(ProducedBatch({Record("k", "q7")}, kafka::Codec::kGzip)));
  EXPECT_EQ(EnvelopeOf(sealed.records.at(0)).flags & crypto::kFlagCompressedValue, 0);
}

// A full batch of a librdkafka producer: 1,000,000 bytes, and it gives up when the broker refuses it.
// A producer's batch that is nearly as large as the broker takes it.
class FullBatchTest : public SealedBatchTest {
 protected:
  FullBatchTest() { UseTopicKey(); }

  ByteBuffer Produced(int count, size_t valueSize, kafka::Codec codec = kafka::Codec::kNone) {
    records_.clear();
    for (int i = 0; i < count; ++i) {
      records_.push_back(Record(StrCat("key-", i), StrCat(i, std::string(valueSize, 'v'))));
    }
    ByteBuffer produced = ProducedBatch(records_, codec);
    EXPECT_LT(produced.size(), kTopicLimit);
    EXPECT_GT(records_.size() * (valueSize + 90), kTopicLimit);
    return produced;
  }
  void ExpectTaken(const SealTask& task, size_t parts, kafka::Codec codec) {
    ByteBuffer sealed;
    const SealOutcome outcome = Seal(task, sealed);
    EXPECT_EQ(outcome.sealed, records_.size());
    ASSERT_EQ(outcome.parts.size(), parts);
    size_t start = 0;
    size_t record = 0;
    for (const SealedPart& part : outcome.parts) {
      EXPECT_LE(part.size, kTopicLimit);
      const ByteBuffer batch(sealed.begin() + start, sealed.begin() + start + part.size);
      start += part.size;
      const ReadBatch opened = Opened(Padded(batch));
      EXPECT_EQ(Read(batch).header.codec(), codec);
      EXPECT_EQ(opened.records.size(), static_cast<size_t>(part.records));
      for (const TestRecord& one : opened.records) ASSERT_EQ(one.value, records_.at(record++).value);
    }
    EXPECT_EQ(start, sealed.size());
    EXPECT_EQ(record, records_.size());
  }

  std::vector<TestRecord> records_;
};

TEST_F(FullBatchTest, IsRefusedForAnOffsetThatIsNotItsRecordsPlace) {
  (void)Produced(980, 1010);
  for (size_t i = 0; i < records_.size(); ++i) records_[i].offsetDelta = static_cast<int32_t>(i);
  for (const size_t at : {size_t{1}, records_.size() - 1}) {
    std::vector<TestRecord> records = records_;
    records[at].offsetDelta += 1'000'000;
    TestBatch batch;
    batch.count = static_cast<int32_t>(records.size());
    batch.lastOffsetDelta = batch.count - 1;
    ExpectRefused(Padded(BatchBytes(batch, RecordsBytes(records))), RefuseReason::kMalformed);
  }
}

// Compressed, the first would fit, or not: that differs from one salt to another.
TEST_F(FullBatchTest, IsSplitRatherThanGrownPastTheTopicsLimit) {
  ExpectTaken(TaskToSeal(Produced(980, 1010)), 2, kafka::Codec::kNone);
  ExpectTaken(TaskToSeal(Produced(9000, 90)), 2, kafka::Codec::kNone);
}

TEST_F(FullBatchTest, OfOneRecordHasItsValueCompressed) {
  const size_t largest = kTopicLimit - kafka::kBatchHeaderSize - 25;
  ExpectTaken(TaskToSeal(Produced(1, largest)), 1, kafka::Codec::kZstd);
  UsePolicy(R"({"name": "clicks", "seal": {"scope": "topic", "compress": "never"}, "read": [{"any": true}]})");
  ByteBuffer sealed;
  EXPECT_GT(Seal(TaskToSeal(Produced(1, largest)), sealed).parts.at(0).size, kTopicLimit);
}

TEST_F(FullBatchTest, OfOneRecordIsCompressedWithLz4ForAnOldProduceVersion) {
  const ByteBuffer produced = Produced(1, kTopicLimit - kafka::kBatchHeaderSize - 25);
  SealTask task = TaskToSeal(produced);
  task.zstdAllowed = false;
  ExpectTaken(task, 1, kafka::Codec::kLz4);
}

// Null values are not sealed.
TEST_F(FullBatchTest, OfTombstonesIsLeftWhole) {
  records_.clear();
  for (int i = 0; i < 4000; ++i) records_.push_back(Record(StrCat("key ", i, std::string(200, 'k')), std::nullopt));
  const ByteBuffer produced = ProducedBatch(records_);
  SealTask task = TaskToSeal(produced);
  task.topicLimit = produced.size();
  ByteBuffer sealed;
  EXPECT_EQ(Seal(task, sealed).parts.size(), 1u);
  EXPECT_LE(sealed.size(), task.topicLimit);
}

// What a codec adds to bytes that do not compress is more than a full part has room for.
TEST_F(FullBatchTest, GoesWithoutItsCodecWhereThatWouldMakeAPartTooLarge) {
  std::mt19937 random(1);
  records_.clear();
  for (int i = 0; i < 4; ++i) {
    std::string noise(100'000, '\0');
    for (char& byte : noise) byte = static_cast<char>(random());
    records_.push_back(Record("k", noise));
  }
  const ByteBuffer produced = ProducedBatch(records_, kafka::Codec::kGzip);
  SealTask task = TaskToSeal(produced);
  task.topicLimit = produced.size();
  for (size_t room = 0; room < 4; ++room) {
    ByteBuffer sealed;
    const SealOutcome outcome = Seal(task, sealed);
    ASSERT_EQ(outcome.kind, SealOutcome::Kind::kSealed);
    for (const SealedPart& part : outcome.parts) EXPECT_LE(part.size, task.topicLimit);
    task.topicLimit += 64;
  }
}

TEST_F(FullBatchTest, ThatWouldBeSplitIsRefusedAsAWhole) {
  UseUserKeys();
  for (int i = 0; i < 9000; ++i) {
    records_.push_back(Record("k", StrCat(R"({"user": "u", "text": ")", std::string(78, 'v'), "\"}")));
  }
  records_.at(8000).value = "not JSON";
  const ByteBuffer produced = ProducedBatch(records_);
  ASSERT_LT(produced.size(), kTopicLimit);
  ByteBuffer sealed;
  const SealOutcome outcome = Seal(TaskToSeal(produced), sealed);
  ASSERT_EQ(outcome.kind, SealOutcome::Kind::kRefused);
  EXPECT_EQ(outcome.refusal.recordCount, 9000u);
  ASSERT_EQ(outcome.refusal.records.size(), 1u);
  EXPECT_EQ(outcome.refusal.records.at(0).index, 8000);
  EXPECT_TRUE(sealed.empty());
}

TEST_F(FullBatchTest, OfAProducerThatCompressesKeepsItsCodecInEachPart) {
  ExpectTaken(TaskToSeal(Produced(40'000, 90, kafka::Codec::kLz4)), 7, kafka::Codec::kLz4);
}

TEST_F(SealedBatchTest, CountsARecordOfAnErasedUserAndSealsItForNobody) {
  UseUserKeys();
  Sealed({ClickOf("anna")});
  Erase("anna");
  const ByteBuffer produced = ProducedBatch({ClickOf("anna"), ClickOf("bert"), ClickOf("anna")});
  ByteBuffer sealed;
  const SealOutcome outcome = Seal(TaskToSeal(produced), sealed);
  ASSERT_EQ(outcome.kind, SealOutcome::Kind::kSealed);
  EXPECT_EQ(outcome.sealed, 3u);
  EXPECT_EQ(outcome.afterErasure, 2u);
  const ReadBatch opened = Opened(sealed);
  ASSERT_EQ(opened.records.size(), 1u);
  EXPECT_EQ(opened.records.at(0).value, Click("bert"));
}

}  // namespace
}  // namespace kveil::guard
