// What a reader gets of a batch: opened records, no erased ones, and nothing past what does not open.
#include "guard/open/batch_opener.h"

#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/escaping.h"
#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

class OpenedBatchTest : public BatchTest {
 protected:
  // The sealed form of one record.
  TestRecord SealedRecord(TestRecord record) { return Read(Sealed({std::move(record)})).records[0]; }

  void ExpectStop(Bytes batch, RefuseReason reason) {
    const OpenOutcome outcome = OpenAgain(batch);
    ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
    EXPECT_EQ(outcome.reason, reason);
    EXPECT_FALSE(outcome.problem.empty());
    EXPECT_EQ(outcome.problem.find("secret"), std::string::npos) << outcome.problem;
  }
  void ExpectStop(const TestRecord& record, RefuseReason reason) { ExpectStop(ProducedBatch({record}), reason); }

  // One COMMIT marker of no producer at the offsets of what it stands for.
  static void ExpectFiller(const ReadBatch& batch, int64_t baseOffset, int32_t lastOffsetDelta) {
    EXPECT_EQ(batch.header.baseOffset, baseOffset);
    EXPECT_EQ(batch.header.lastOffsetDelta, lastOffsetDelta);
    EXPECT_TRUE(batch.header.isControl());
    EXPECT_FALSE(batch.header.isTransactional());
    EXPECT_EQ(batch.header.codec(), kafka::Codec::kNone);
    EXPECT_EQ(batch.header.producerId, -1);
    EXPECT_EQ(batch.header.producerEpoch, -1);
    EXPECT_EQ(batch.header.baseSequence, -1);
    ASSERT_EQ(batch.records.size(), 1u);
    EXPECT_EQ(batch.records.at(0).offsetDelta, lastOffsetDelta);
    EXPECT_EQ(batch.records[0].key, Text(std::string("\0\0\0\1", 4)));
    EXPECT_EQ(batch.records.at(0).value, Text(std::string(6, '\0')));
    EXPECT_TRUE(batch.records.at(0).headers.empty());
  }
};

TEST_F(OpenedBatchTest, IsLeftAloneWhenNothingInItIsSealed) {
  UseTopicKey();
  const OpenOutcome outcome = OpenAgain(ProducedBatch({Record("a", "clear"), Record("b", std::nullopt)}));
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kUnchanged);
  EXPECT_EQ(outcome.plaintext, 1u);
  EXPECT_FALSE(outcome.plaintextDropped);
}

TEST_F(OpenedBatchTest, PassesPlaintextBesideSealedRecords) {
  UseTopicKey();
  const TestRecord sealed = SealedRecord(Record("a", "secret"));
  ByteBuffer out;
  const ByteBuffer batch = ProducedBatch({sealed, Record("b", "clear"), Record("c", std::nullopt)});
  // The index in the envelope is what it was sealed with, not where the record lies now.
  const OpenOutcome outcome = OpenTo(TaskToOpen(), batch, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_EQ(outcome.opened, 1u);
  EXPECT_EQ(outcome.plaintext, 1u);
  const ReadBatch opened = Read(out);
  ASSERT_EQ(opened.records.size(), 3u);
  EXPECT_EQ(opened.records.at(0).value, "secret");
  EXPECT_EQ(opened.records.at(1).value, "clear");
  EXPECT_EQ(opened.records.at(2).value, std::nullopt);
}

TEST_F(OpenedBatchTest, LeavesPlaintextOutWhereThePolicySaysSo) {
  UseTopicKey(R"(, "plaintext": "drop")");
  const TestRecord sealed = SealedRecord(Record("a", "secret"));
  const ByteBuffer batch = ProducedBatch({sealed, Record("b", "clear"), Record("c", std::nullopt), Record("d", "")});
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(TaskToOpen(), batch, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_TRUE(outcome.plaintextDropped);
  EXPECT_EQ(outcome.plaintext, 2u);
  const ReadBatch opened = Read(out);
  EXPECT_EQ(opened.header.lastOffsetDelta, 3);
  ASSERT_EQ(opened.records.size(), 2u);
  EXPECT_EQ(opened.records.at(0).value, "secret");
  EXPECT_EQ(opened.records.at(1).offsetDelta, 2) << "a tombstone has no value to hide";
}

TEST_F(OpenedBatchTest, OfDroppedPlaintextAloneBecomesAFiller) {
  UseTopicKey(R"(, "plaintext": "drop")");
  TestBatch batch;
  batch.baseOffset = 500;
  const ReadBatch opened =
      Opened(ProducedBatch({Record("a", "clear"), Record("b", "clear")}, kafka::Codec::kGzip, batch));
  ExpectFiller(opened, 500, 1);
}

TEST_F(OpenedBatchTest, LeavesErasedUsersOutAndKeepsEveryOffset) {
  UseUserKeys();
  TestBatch batch;
  batch.baseOffset = 1000;
  const ByteBuffer sealed =
      Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("anna"), Record("t", std::nullopt), ClickOf("anna")}, batch);
  Erase("anna");
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(TaskToOpen(), sealed, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_EQ(outcome.erased, 3u);
  EXPECT_EQ(outcome.opened, 1u);
  const ReadBatch opened = Read(out);
  ExpectSameButForCodecAndSize(opened.header, Read(sealed).header);
  EXPECT_EQ(opened.header.lastOffsetDelta, 4);
  ASSERT_EQ(opened.records.size(), 2u);
  EXPECT_EQ(opened.records.at(0).value, Click("bert"));
  EXPECT_EQ(opened.records.at(0).offsetDelta, 1);
  EXPECT_EQ(opened.records.at(1).offsetDelta, 3);
}

TEST_F(OpenedBatchTest, OfErasedUsersAloneBecomesAFiller) {
  UseUserKeys();
  for (const int16_t timestampType : {int16_t{0}, kafka::BatchHeader::kLogAppendTimeBit}) {
    TestBatch batch;
    batch.baseOffset = 77;
    batch.attributes = static_cast<int16_t>(timestampType | kafka::BatchHeader::kTransactionalBit);
    const std::string user = StrCat("anna", timestampType);
    const ByteBuffer sealed =
        Sealed(ProducedBatch({ClickOf(user), ClickOf(user), ClickOf(user)}, kafka::Codec::kZstd, batch));
    Erase(user);
    const ReadBatch opened = Opened(sealed);
    ExpectFiller(opened, 77, 2);
    EXPECT_EQ(opened.header.isLogAppendTime(), timestampType != 0);
  }
}

TEST_F(OpenedBatchTest, MasksErasedUsersWhereAsked) {
  UseUserKeys();
  TestRecord withHeader = ClickOf("anna");
  withHeader.headers = {{"trace", "1"}};
  const ByteBuffer sealed = Sealed({ClickOf("bert"), withHeader, Record("t", std::nullopt), ClickOf("anna")});
  Erase("anna");
  OpenTask task = TaskToOpen();
  task.masking.erased = true;
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(task, sealed, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_EQ(outcome.erased, 2u);
  EXPECT_EQ(outcome.opened, 1u);
  const ReadBatch opened = Read(out);
  ExpectSameButForCodecAndSize(opened.header, Read(sealed).header);
  ASSERT_EQ(opened.records.size(), 4u);
  EXPECT_EQ(opened.records.at(0).value, Click("bert"));
  EXPECT_EQ(opened.records.at(1).key, "key-anna");
  EXPECT_EQ(opened.records.at(1).value, "") << "a null value would be a tombstone";
  const std::vector<std::pair<std::string, Text>> headers = {{"trace", "1"}, {"kveil-hidden", "erased"}};
  EXPECT_EQ(opened.records.at(1).headers, headers);
  EXPECT_EQ(opened.records.at(2).value, std::nullopt);
  EXPECT_TRUE(opened.records.at(2).headers.empty());
  EXPECT_EQ(opened.records.at(3).offsetDelta, 3);
}

TEST_F(OpenedBatchTest, OfErasedUsersAloneIsNoFillerWhereItIsMasked) {
  UseUserKeys();
  const ByteBuffer sealed = Sealed(ProducedBatch({ClickOf("anna"), ClickOf("anna")}, kafka::Codec::kLz4));
  Erase("anna");
  OpenTask task = TaskToOpen();
  task.masking.erased = true;
  task.fetchOffset = 1;
  const ReadBatch opened = Opened(task, sealed);
  EXPECT_FALSE(opened.header.isControl());
  ASSERT_EQ(opened.records.size(), 2u);
  EXPECT_EQ(opened.records.at(1).value, "");
}

TEST_F(OpenedBatchTest, MasksDroppedPlaintextWhereAsked) {
  UseTopicKey(R"(, "plaintext": "drop")");
  OpenTask task = TaskToOpen();
  task.masking.plaintext = true;
  const ReadBatch opened = Opened(task, ProducedBatch({Record("a", "clear"), Record("b", std::nullopt)}));
  ASSERT_EQ(opened.records.size(), 2u);
  EXPECT_EQ(opened.records.at(0).value, "");
  const std::vector<std::pair<std::string, Text>> headers = {{"kveil-hidden", "plaintext"}};
  EXPECT_EQ(opened.records.at(0).headers, headers);
  EXPECT_TRUE(opened.records.at(1).headers.empty()) << "a tombstone has no value to hide";
}

// A null value would be a tombstone of somebody who is not erased.
TEST_F(OpenedBatchTest, MasksDroppedPlaintextWithNothingWhateverErasedUsersGet) {
  for (const char* onErased : {R"("null")", R"({"mask": {"erased": true}})"}) {
    UseTopicKey(StrCat(R"(, "plaintext": "drop", "onErased": )", onErased));
    OpenTask task = TaskToOpen();
    task.masking.plaintext = true;
    const ReadBatch opened = Opened(task, ProducedBatch({Record("a", "clear")}));
    ASSERT_EQ(opened.records.size(), 1u);
    EXPECT_EQ(opened.records.at(0).value, "") << onErased;
  }
}

TEST_F(OpenedBatchTest, StopsAtAnOldMessageThatWouldHaveToBeMasked) {
  UseTopicKey(R"(, "plaintext": "drop")");
  ByteBuffer message = ProducedBatch({Record("k", "value")});
  message[16] = 1;
  OpenTask task = TaskToOpen();
  task.masking.plaintext = true;
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(task, message, out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(outcome.reason, RefuseReason::kOldFormat);
}

// sarama steps one offset a fetch when nothing at or above the offset it asked for is visible.
TEST_F(OpenedBatchTest, BecomesAFillerWhenAllThatIsVisibleLiesBeforeTheAskedOffset) {
  UseUserKeys();
  TestBatch batch;
  batch.baseOffset = 100;
  const ByteBuffer sealed = Sealed({ClickOf("bert"), ClickOf("bert"), ClickOf("anna"), ClickOf("anna")}, batch);
  Erase("anna");
  OpenTask task = TaskToOpen();
  task.fetchOffset = 102;
  ExpectFiller(Opened(task, sealed), 100, 3);
  task.fetchOffset = 101;
  const ReadBatch opened = Opened(task, sealed);
  ASSERT_EQ(opened.records.size(), 2u);
  EXPECT_EQ(opened.records.at(1).offsetDelta, 1);
}

TEST_F(OpenedBatchTest, IsNoFillerOnlyBecauseItsRecordsLieBeforeTheAskedOffset) {
  UseUserKeys();
  OpenTask task = TaskToOpen();
  task.fetchOffset = 1000;
  EXPECT_EQ(Opened(task, Sealed({ClickOf("bert")})).records.size(), 1u);
}

TEST_F(OpenedBatchTest, StopsAtEveryFlippedByteOfAValue) {
  UseTopicKey();
  const TestRecord sealed = SealedRecord(Record("k", "secret value"));
  for (size_t i = 0; i < sealed.value->size(); ++i) {
    TestRecord tampered = sealed;
    (*tampered.value)[i] ^= 1;
    ExpectStop(tampered, RefuseReason::kTampered);
  }
}

TEST_F(OpenedBatchTest, StopsAtEveryFlippedByteOfAnEnvelope) {
  UseUserKeys();
  const TestRecord sealed = SealedRecord(ClickOf("secret"));
  for (size_t i = 0; i < sealed.headers[0].second->size(); ++i) {
    for (const char bit : {1, 2, 4, 8, 16}) {
      TestRecord tampered = sealed;
      (*tampered.headers[0].second)[i] ^= bit;
      const OpenOutcome outcome = OpenAgain(ProducedBatch({tampered}));
      EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop) << "byte " << i << ", bit " << int{bit};
    }
  }
}

TEST_F(OpenedBatchTest, StopsAtWhatWasCutShort) {
  UseTopicKey();
  const TestRecord sealed = SealedRecord(Record("k", "secret value"));
  for (size_t size = 0; size < sealed.value->size(); ++size) {
    TestRecord cut = sealed;
    cut.value->resize(size);
    ExpectStop(cut, RefuseReason::kTampered);
  }
  for (size_t size = 0; size < sealed.headers[0].second->size(); ++size) {
    TestRecord cut = sealed;
    cut.headers[0].second->resize(size);
    EXPECT_EQ(OpenAgain(ProducedBatch({cut})).kind, OpenOutcome::Kind::kStop) << size;
  }
}

TEST_F(OpenedBatchTest, StopsAtAnEnvelopeWithoutContentOrTwice) {
  UseTopicKey();
  const TestRecord sealed = SealedRecord(Record("k", "secret value"));
  TestRecord noValue = sealed;
  noValue.value.reset();
  ExpectStop(noValue, RefuseReason::kTampered);
  TestRecord noEnvelope = sealed;
  noEnvelope.headers[0].second.reset();
  ExpectStop(noEnvelope, RefuseReason::kTampered);
  for (const int copies : {2, 3}) {
    TestRecord twice = sealed;
    twice.headers.resize(static_cast<size_t>(copies), sealed.headers[0]);
    ExpectStop(twice, RefuseReason::kTampered);
  }
}

TEST_F(OpenedBatchTest, StopsAtARecordUnderAnotherKeyOrWithout) {
  UseTopicKey();
  const TestRecord sealed = SealedRecord(Record("k", "secret value"));
  for (const Text& key : {Text("other"), Text(""), Text()}) {
    TestRecord moved = sealed;
    moved.key = key;
    ExpectStop(moved, RefuseReason::kTampered);
  }
  TestRecord nullKey = SealedRecord(Record(std::nullopt, "secret value"));
  nullKey.key = "";
  ExpectStop(nullKey, RefuseReason::kTampered);
}

TEST_F(OpenedBatchTest, StopsAtARecordOfAnotherTopic) {
  UsePolicy(R"({"prefix": "c", "seal": {"scope": "cluster"}, "read": [{"any": true}]})");
  const ByteBuffer sealed = Sealed({Record("k", "secret value")});
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(TaskToOpen("copies"), sealed, out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(outcome.reason, RefuseReason::kTampered);
  EXPECT_TRUE(out.empty());
}

TEST_F(OpenedBatchTest, OpensAMirroredTopicThatNamesItsOrigin) {
  UsePolicy(R"({"name": "clicks", "seal": {"scope": "topic"}, "read": [{"any": true}]},
               {"name": "west.clicks", "read": [{"any": true}], "origin": "clicks"},
               {"name": "west.orders", "read": [{"any": true}], "origin": "orders"})");
  const ByteBuffer sealed = Sealed({Record("k", "secret value")});
  EXPECT_EQ(Opened(TaskToOpen("west.clicks"), sealed).records.at(0).value, "secret value");
  ByteBuffer out;
  EXPECT_EQ(OpenTo(TaskToOpen("west.orders"), sealed, out).kind, OpenOutcome::Kind::kStop);
}

TEST_F(OpenedBatchTest, OpensWhatWasSealedInATopicThatNamesAnOrigin) {
  UsePolicy(R"({"name": "west.clicks", "seal": {"scope": "topic"}, "read": [{"any": true}], "origin": "clicks"})");
  const ByteBuffer produced = ProducedBatch({Record("k", "secret value")});
  const ByteBuffer sealed = Sealed(TaskToSeal(produced, "west.clicks"));
  EXPECT_EQ(Opened(TaskToOpen("west.clicks"), sealed).records.at(0).value, "secret value");
}

TEST_F(OpenedBatchTest, OpensWhatWasSealedBeforeATopicNamedAnOriginAndAfterIt) {
  const std::string topic = R"({"name": "west.clicks", "seal": {"scope": "topic"}, "read": [{"any": true}])";
  const ByteBuffer produced = ProducedBatch({Record("k", "secret value")});
  UsePolicy(topic + "}");
  const ByteBuffer before = Sealed(TaskToSeal(produced, "west.clicks"));
  UsePolicy(topic + R"(, "origin": "clicks"})");
  EXPECT_EQ(Opened(TaskToOpen("west.clicks"), before).records.at(0).value, "secret value");
  const ByteBuffer after = Sealed(TaskToSeal(produced, "west.clicks"));
  UsePolicy(topic + "}");
  EXPECT_EQ(Opened(TaskToOpen("west.clicks"), after).records.at(0).value, "secret value") << "an origin seals nothing";
}

TEST_F(OpenedBatchTest, UnderstandsAnEnvelopeThatAPipelineTurnedIntoBase64) {
  UseUserKeys();
  TestRecord sealed = SealedRecord(ClickOf("anna"));
  sealed.headers[0].second = absl::Base64Escape(*sealed.headers[0].second);
  EXPECT_EQ(Opened(ProducedBatch({sealed})).records.at(0).value, Click("anna"));
}

TEST_F(OpenedBatchTest, StopsAtAKeyThatNobodyKnows) {
  UseTopicKey();
  TestRecord sealed = SealedRecord(Record("k", "secret value"));
  (*sealed.headers[0].second)[5] ^= 0x55;  // inside the key id
  ExpectStop(sealed, RefuseReason::kUnknownKey);
}

TEST_F(OpenedBatchTest, StopsAtOffsetsOutOfOrderOrOutsideTheBatch) {
  UseTopicKey();
  const TestRecord sealed = SealedRecord(Record("a", "secret"));
  for (const std::pair<int32_t, int32_t>& deltas :
       {std::pair(0, 10), {0, 0}, {3, 2}, {-2, 1}, {0, -2}, {0, 2'000'000'000}}) {
    std::vector<TestRecord> records = {sealed, sealed};
    records[0].offsetDelta = deltas.first;
    records[1].offsetDelta = deltas.second;
    TestBatch batch;
    batch.count = 2;
    batch.lastOffsetDelta = 9;
    ExpectStop(Padded(BatchBytes(batch, RecordsBytes(records))), RefuseReason::kMalformed);
  }
}

TEST_F(OpenedBatchTest, OpensWhatCompactionHasLeftGapsIn) {
  UseTopicKey();
  std::vector<TestRecord> records(2, SealedRecord(Record("a", "secret")));
  records[0].offsetDelta = 3;
  records[1].offsetDelta = 7;
  TestBatch batch;
  batch.count = 2;
  batch.lastOffsetDelta = 9;
  const ReadBatch opened = Opened(Padded(BatchBytes(batch, RecordsBytes(records))));
  ASSERT_EQ(opened.records.size(), 2u);
  EXPECT_EQ(opened.header.lastOffsetDelta, 9);
  EXPECT_EQ(opened.records[1].offsetDelta, 7);
  EXPECT_EQ(opened.records[1].value, "secret");
}

TEST_F(OpenedBatchTest, StopsAtAWrongChecksum) {
  UseTopicKey();
  ByteBuffer sealed = Sealed({Record("k", "secret value")});
  sealed.back() ^= 1;
  ExpectStop(sealed, RefuseReason::kBadChecksum);
}

TEST_F(OpenedBatchTest, StopsAtRecordsThatDoNotParse) {
  UseTopicKey();
  TestBatch batch;
  batch.count = 2;
  ExpectStop(BatchBytes(batch, RecordsBytes({Record("a", "1")})), RefuseReason::kMalformed);
  batch.attributes = static_cast<int16_t>(kafka::Codec::kZstd);
  ExpectStop(BatchBytes(batch, AsBytes("this is no zstd")), RefuseReason::kMalformed);
}

TEST_F(OpenedBatchTest, StopsAtABatchThatDecompressesBeyondTheLimit) {
  UseTopicKey();
  const ByteBuffer batch = ProducedBatch({Record("k", std::string(200'000, 'a'))}, kafka::Codec::kZstd);
  OpenTask task = TaskToOpen();
  task.batchLimit = 100'000;
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(task, batch, out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(outcome.reason, RefuseReason::kTooLarge);
}

TEST_F(OpenedBatchTest, StopsAtAValueThatDecompressesBeyondTheLimit) {
  UseTopicKey();
  const ByteBuffer sealed = Sealed(ProducedBatch({Record("k", std::string(200'000, 'a'))}, kafka::Codec::kZstd));
  OpenTask task = TaskToOpen();
  task.batchLimit = 100'000;
  ByteBuffer out;
  EXPECT_EQ(OpenTo(task, sealed, out).kind, OpenOutcome::Kind::kStop);
  EXPECT_TRUE(out.empty());
}

TEST_F(OpenedBatchTest, LeavesControlBatchesAlone) {
  UseTopicKey(R"(, "plaintext": "drop")");
  TestBatch batch;
  batch.attributes = kafka::BatchHeader::kControlBit | kafka::BatchHeader::kTransactionalBit;
  const std::string commit("\0\0\0\1", 4);
  EXPECT_EQ(OpenAgain(ProducedBatch({Record(commit, std::string(6, '\0'))}, kafka::Codec::kNone, batch)).kind,
            OpenOutcome::Kind::kUnchanged);
}

TEST_F(OpenedBatchTest, TakesTheOldMessageFormatsForPlaintext) {
  for (const uint8_t magic : {0, 1}) {
    ByteBuffer message = ProducedBatch({Record("k", "value")});
    message[16] = magic;
    message[7] = 42;  // the offset
    UseTopicKey();
    const OpenOutcome passed = OpenAgain(message);
    EXPECT_EQ(passed.kind, OpenOutcome::Kind::kUnchanged);
    EXPECT_EQ(passed.plaintext, 1u);
    UseTopicKey(R"(, "plaintext": "drop")");
    ExpectFiller(Opened(message), 42, 0);
  }
}

TEST_F(OpenedBatchTest, KeepsItsCodecWhereItIsTooLargeWithout) {
  UseTopicKey();
  const ByteBuffer sealed = Sealed(ProducedBatch({Record("k", std::string(2000, 'a'))}, kafka::Codec::kLz4));
  OpenTask task = TaskToOpen();
  const ReadBatch without = Opened(task, sealed);
  EXPECT_EQ(without.header.codec(), kafka::Codec::kNone);
  task.uncompressedRoom = without.header.size();
  EXPECT_EQ(Opened(task, sealed).header.codec(), kafka::Codec::kNone) << "it just fits";
  --task.uncompressedRoom;
  const ReadBatch kept = Opened(task, sealed);
  EXPECT_EQ(kept.header.codec(), kafka::Codec::kLz4);
  EXPECT_EQ(kept.records.at(0).value, std::string(2000, 'a'));
}

// To readers from before zstd, and where a broker has recompressed a topic to nothing: gzip is what every client has.
TEST_F(OpenedBatchTest, IsCompressedWithGzipWhereItsOwnCodecIsNotToBeHad) {
  UseTopicKey();
  OpenTask task = TaskToOpen();
  task.uncompressedRoom = 0;
  const ByteBuffer zstd = Sealed(ProducedBatch({Record("k", std::string(2000, 'a'))}, kafka::Codec::kZstd));
  EXPECT_EQ(Opened(task, zstd).header.codec(), kafka::Codec::kZstd);
  task.zstdAllowed = false;
  EXPECT_EQ(Opened(task, zstd).header.codec(), kafka::Codec::kGzip);

  ReadBatch recompressed = Read(zstd);
  const ByteBuffer larger = ProducedBatch(recompressed.records);
  EXPECT_EQ(Opened(task, larger).header.codec(), kafka::Codec::kGzip) << "its value was compressed before sealing";
  const ByteBuffer smaller = Sealed(ProducedBatch({Record("k", std::string(2000, 'a'))}));
  EXPECT_EQ(Opened(task, smaller).header.codec(), kafka::Codec::kNone) << "it does not grow";
}

TEST_F(OpenedBatchTest, AsksForEachMissingKeyOnceAndWritesNothingYet) {
  UseUserKeys();
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("anna")});
  scratch_ = std::make_unique<WorkerScratch>(*service_);  // another worker
  ByteBuffer out = {1, 2, 3};
  OpenOutcome outcome = OpenBatch(TaskToOpen(), ViewOf(sealed), *scratch_, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kNeeds);
  EXPECT_EQ(outcome.needs.keys.ids.size(), 2u);
  EXPECT_EQ(out, (ByteBuffer{1, 2, 3}));
  FetchMissing(std::move(outcome.needs));
  ASSERT_EQ(OpenBatch(TaskToOpen(), ViewOf(sealed), *scratch_, out).kind, OpenOutcome::Kind::kRewritten);
  EXPECT_EQ(Read(Bytes(out).subspan(3)).records.size(), 3u);
}

// Records that were sealed in different batches meet again in one, after compaction or a mirror.
TEST_F(OpenedBatchTest, AsksOnceForAKeyThatIsNamedUnderTwoSalts) {
  UseUserKeys();
  const ByteBuffer batch = ProducedBatch({SealedRecord(ClickOf("anna")), SealedRecord(ClickOf("anna"))});
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  ByteBuffer out;
  const OpenOutcome outcome = OpenBatch(TaskToOpen(), ViewOf(batch), *scratch_, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kNeeds);
  EXPECT_EQ(outcome.needs.keys.ids.size(), 1u);
  EXPECT_EQ(Opened(batch).records.size(), 2u);
}

// No broker has so many records, but one that is not what it seems could say so.
TEST_F(OpenedBatchTest, IsReadAlsoWhenItsOffsetsPassTheLastThereIs) {
  UseUserKeys();
  TestBatch batch;
  batch.baseOffset = std::numeric_limits<int64_t>::max();
  const ByteBuffer plaintext = ProducedBatch({ClickOf("anna"), ClickOf("bert")}, kafka::Codec::kNone, batch);
  EXPECT_EQ(OpenAgain(plaintext).kind, OpenOutcome::Kind::kUnchanged);
}

TEST_F(OpenedBatchTest, OfAnErasedUserIsErasedForAWorkerThatNeverSawTheKey) {
  UseUserKeys();
  const ByteBuffer sealed = Sealed({ClickOf("anna")});
  Erase("anna");
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  ExpectFiller(Opened(sealed), 0, 0);
}

}  // namespace
}  // namespace kveil::guard
