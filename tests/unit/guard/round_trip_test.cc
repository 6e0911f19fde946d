// Sealing and opening again gives the reader what was produced, and the broker nothing of it.
#include <gtest/gtest.h>

#include "guard_fixture.h"

namespace kveil::guard {
namespace {

constexpr char kUserScope[] = R"({"scope": "user", "user": {"value": "/user"}})";
constexpr char kTopicScope[] = R"({"scope": "topic"})";
constexpr char kClusterScope[] = R"({"scope": "cluster"})";
constexpr char kNeverCompressed[] = R"({"scope": "cluster", "compress": "never"})";

// Records of every shape that a producer may send.
std::vector<TestRecord> ManyShapes() {
  std::vector<TestRecord> records;
  records.push_back(Record("k0", R"({"user": "anna", "page": "/secret-plan"})"));
  records.push_back(Record(std::nullopt, R"({"user": 38, "page": "/secret-plan"})"));
  records.push_back(Record("", R"({"user": "anna"})"));
  records.push_back(Record("tombstone", std::nullopt));
  records.push_back(Record("k4", R"({"user": "bert", "text": ")" + std::string(3000, 'x') + R"("})"));
  records.push_back(Record("k5", R"({"user": "38"})"));
  records.at(0).headers = {{"trace", "abc"}, {"empty", ""}, {"null", std::nullopt}};
  records.at(4).headers = {{"trace", std::string(300, 'h')}};
  for (size_t i = 0; i < records.size(); ++i) records[i].timestampDelta = static_cast<int64_t>(i * 1000) - 2000;
  return records;
}

struct Way {
  const char* name;
  const char* seal;
  kafka::Codec codec;
};

class RoundTripTest : public BatchTest, public testing::WithParamInterface<Way> {
 protected:
  RoundTripTest() {
    UsePolicy(std::string(R"({"name": "clicks", "read": [{"any": true}], "seal": )") + GetParam().seal + "}");
  }
};

TEST_P(RoundTripTest, GivesTheReaderWhatWasProduced) {
  const std::vector<TestRecord> records = ManyShapes();
  const ByteBuffer produced = ProducedBatch(records, GetParam().codec);
  const ReadBatch before = Read(produced);

  const ByteBuffer sealed = Padded(Sealed(produced));
  const ReadBatch after = Opened(sealed);

  ASSERT_EQ(after.records.size(), records.size());
  for (size_t i = 0; i < records.size(); ++i) EXPECT_TRUE(SameContent(after.records[i], before.records[i])) << i;
  EXPECT_EQ(after.timestampDeltas, before.timestampDeltas);
  EXPECT_EQ(after.header.count, before.header.count);
  ExpectSameButForCodecAndSize(after.header, before.header);
}

TEST_P(RoundTripTest, LeavesTheBrokerNothingButWhatItNeeds) {
  const std::vector<TestRecord> records = ManyShapes();
  const ByteBuffer produced = ProducedBatch(records, GetParam().codec);
  const ReadBatch before = Read(produced);

  const ByteBuffer bytes = Sealed(produced);
  const ReadBatch sealed = Read(bytes);

  EXPECT_EQ(sealed.header.codec(), GetParam().codec);
  EXPECT_EQ(sealed.header.count, before.header.count);
  ExpectSameButForCodecAndSize(sealed.header, before.header);
  EXPECT_EQ(sealed.timestampDeltas, before.timestampDeltas);
  ASSERT_EQ(sealed.records.size(), records.size());
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(sealed.records[i].key, records[i].key) << i;
    EXPECT_EQ(sealed.records[i].offsetDelta, static_cast<int32_t>(i));
    if (!records[i].value.has_value()) {
      EXPECT_TRUE(SameContent(sealed.records[i], before.records[i])) << "a tombstone was touched";
      continue;
    }
    ASSERT_EQ(sealed.records[i].headers.size(), records[i].headers.size() + 1) << i;
    EXPECT_EQ(sealed.records[i].headers.back().first, "kveil");
    EXPECT_EQ(sealed.records[i].value->find("user"), std::string::npos) << i;
    EXPECT_EQ(sealed.records[i].value->find("secret-plan"), std::string::npos) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(, RoundTripTest,
                         testing::Values(Way{"UserPlain", kUserScope, kafka::Codec::kNone},
                                         Way{"UserGzip", kUserScope, kafka::Codec::kGzip},
                                         Way{"UserSnappy", kUserScope, kafka::Codec::kSnappy},
                                         Way{"UserLz4", kUserScope, kafka::Codec::kLz4},
                                         Way{"UserZstd", kUserScope, kafka::Codec::kZstd},
                                         Way{"TopicPlain", kTopicScope, kafka::Codec::kNone},
                                         Way{"TopicGzip", kTopicScope, kafka::Codec::kGzip},
                                         Way{"TopicZstd", kTopicScope, kafka::Codec::kZstd},
                                         Way{"ClusterPlain", kClusterScope, kafka::Codec::kNone},
                                         Way{"ClusterSnappy", kClusterScope, kafka::Codec::kSnappy},
                                         Way{"ClusterLz4", kClusterScope, kafka::Codec::kLz4},
                                         Way{"NeverCompressedZstd", kNeverCompressed, kafka::Codec::kZstd}),
                         [](const auto& way) { return way.param.name; });

class RoundTripOfOneKindTest : public BatchTest {
 protected:
  // However large it gets.
  ByteBuffer SealedWhole(Bytes records) {
    SealTask task = TaskToSeal(records);
    task.topicLimit = task.partSize = 10 << 20;
    return Padded(Sealed(task));
  }
};

TEST_F(RoundTripOfOneKindTest, KeepsTransactionalAndTimestampBits) {
  UseTopicKey();
  TestBatch batch;
  batch.attributes = kafka::BatchHeader::kTransactionalBit | kafka::BatchHeader::kLogAppendTimeBit |
                     kafka::BatchHeader::kDeleteHorizonBit;
  batch.baseOffset = 9'000'000'000;
  const ByteBuffer produced = ProducedBatch({Record("k", "v")}, kafka::Codec::kNone, batch);
  const ByteBuffer sealed = Sealed(produced);
  EXPECT_EQ(Read(sealed).header.attributes, batch.attributes);
  const ReadBatch opened = Opened(sealed);
  EXPECT_EQ(opened.header.attributes, batch.attributes);
  EXPECT_EQ(opened.header.baseOffset, batch.baseOffset);
}

TEST_F(RoundTripOfOneKindTest, SealsAnEmptyValueToo) {
  UseTopicKey();
  const ByteBuffer sealed = Sealed({Record("k", "")});
  EXPECT_EQ(Read(sealed).records.at(0).value->size(), crypto::kTagSize);
  EXPECT_EQ(Opened(sealed).records.at(0).value, "");
}

// A cipher is kept for each of the first 4096 keys of a batch; the others share one.
TEST_F(RoundTripOfOneKindTest, HoldsMoreUsersThanThereAreCiphers) {
  UseUserKeys();
  constexpr int kUsers = 4200;
  std::vector<TestRecord> records;
  for (int user = 0; user < kUsers; ++user) records.push_back(ClickOf(StrCat("user-", user)));
  for (int user = kUsers - 1; user >= 0; --user) records.push_back(ClickOf(StrCat("user-", user)));
  const ByteBuffer sealed = SealedWhole(ProducedBatch(records));
  const ReadBatch opened = Opened(sealed);
  ASSERT_EQ(opened.records.size(), records.size());
  for (size_t i = 0; i < records.size(); ++i) ASSERT_EQ(opened.records[i].value, records[i].value) << i;

  // Each under the user's own key: erasing one user takes away that user's two records and no other.
  for (const int user : {0, 4097, 4199}) Erase(StrCat("user-", user));
  const ReadBatch afterwards = Opened(sealed);
  EXPECT_EQ(afterwards.records.size(), records.size() - 6);
  for (const TestRecord& record : afterwards.records) {
    for (const int user : {0, 4097, 4199}) EXPECT_NE(record.key, StrCat("key-user-", user));
  }
}

// The broker knows a retry by its sequence, not by its content, so nothing is lost by fresh nonces.
TEST_F(RoundTripOfOneKindTest, SealsARetryUnderANewSalt) {
  UseTopicKey();
  const ByteBuffer produced = ProducedBatch({Record("k", "v")});
  const ReadBatch first = Read(Sealed(produced));
  const ReadBatch second = Read(Sealed(produced));
  EXPECT_NE(first.records.at(0).headers[0].second, second.records.at(0).headers[0].second);
  EXPECT_NE(first.records.at(0).value, second.records.at(0).value);
  EXPECT_EQ(first.header.baseSequence, second.header.baseSequence);
}

// More than a worker keeps expanded, so that places are taken from keys that the same batch has used.
TEST_F(RoundTripOfOneKindTest, OpensABatchOfMoreUsersThanKeysAreKeptExpanded) {
  UseUserKeys();
  constexpr size_t kUsers = 8300;
  std::vector<TestRecord> records;
  for (size_t i = 0; i < kUsers; ++i) records.push_back(ClickOf(StrCat("user-", i)));
  const ByteBuffer produced = ProducedBatch(std::move(records));
  const ReadBatch before = Read(produced);
  const ByteBuffer first = SealedWhole(produced);
  const ByteBuffer second = SealedWhole(produced);  // with the keys as the first left them
  const auto expectWhole = [&](Bytes sealed) {
    const ReadBatch opened = Opened(sealed);
    ASSERT_EQ(opened.records.size(), kUsers);
    for (size_t i = 0; i < kUsers; ++i) ASSERT_TRUE(SameContent(opened.records[i], before.records[i])) << i;
  };
  expectWhole(second);
  // A worker that has expanded none of them yet.
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  expectWhole(first);
  expectWhole(second);
}

class ClockTest : public BatchTest {
 protected:
  ClockTest() { UseUserKeys(); }
};

TEST_F(ClockTest, ThatJumpsKeepsNothingFromBeingOpened) {
  std::vector<std::pair<crypto::Period, ByteBuffer>> sealed;
  for (const int64_t seconds :
       {int64_t{0}, int64_t{1} << 14, int64_t{-100'000'000}, int64_t{1} << 40, int64_t{-(int64_t{1} << 41)}}) {
    wallMillis_ += seconds * 1000;
    ByteBuffer batch = Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("anna")});
    const std::string header = *Read(batch).records.at(0).headers.back().second;
    sealed.emplace_back(crypto::ParseEnvelopeHeader(AsBytes(header))->period, std::move(batch));
  }
  EXPECT_NE(sealed[0].first, sealed[1].first);
  EXPECT_NE(sealed[1].first, sealed[2].first);
  for (const auto& [period, batch] : sealed) {
    const ReadBatch opened = Opened(batch);
    ASSERT_EQ(opened.records.size(), 3u) << period;
    EXPECT_EQ(opened.records.at(1).value, Click("bert")) << period;
    EXPECT_EQ(opened.records.at(2).value, Click("anna")) << period;
  }
}

TEST_F(ClockTest, AUserOfTwoSuitesIsOpenedWhole) {
  Sealed({ClickOf("anna"), ClickOf("bert")});
  scratch_->keyCache.FindForSealing({keys::Scope::kUser, Topic()->seal->keyspace, "anna"})->sealed =
      keys::KeyCache::kMostUnderAPeriodKey - 2;
  const ByteBuffer batch = Sealed({ClickOf("anna"), ClickOf("anna"), ClickOf("anna"), ClickOf("bert")});
  std::string suites;
  for (const TestRecord& record : Read(batch).records) suites += record.headers.back().second->at(0);
  EXPECT_EQ(suites, "\x12\x12\x11\x12");
  EXPECT_EQ(Opened(batch).records.size(), 4u);
}

}  // namespace
}  // namespace kveil::guard
