// A reader gets no more than it asked for, as a broker promises (KIP-74), and yet every record once and in order: with
// a broker and readers that do what real ones do, over batches of all codecs, hidden records and bounds of all sizes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "guard/fetch_guard.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::Codec;
using kafka::FetchRequest;
using kafka::FetchResponse;

constexpr int16_t kVersion = 12;

// The logs of the partitions of one topic, read as a broker reads them (ReplicaManager.readFromLog).
class Broker {
 public:
  struct Batch {
    int64_t lastOffset = 0;
    ByteBuffer bytes;
  };

  explicit Broker(std::string topic) : topic_(std::move(topic)) {}

  std::map<int32_t, std::vector<Batch>>& logs() { return logs_; }

  FetchResponse Answer(const FetchRequest& request, std::deque<ByteBuffer>& memory) {
    if (request.sessionEpoch <= 0) session_.clear();
    for (const FetchRequest::Topic& topic : request.topics) {
      for (const FetchRequest::Partition& asked : topic.partitions) session_[asked.partition] = asked;
    }
    FetchResponse response;
    response.sessionId = request.sessionEpoch < 0 ? 0 : 77;
    FetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topic = topic_;
    int64_t left = request.maxBytes;
    bool minOneBatch = true;
    for (const auto& [index, asked] : session_) {
      ByteBuffer records =
          Read(index, asked.fetchOffset, std::min<int64_t>(asked.partitionMaxBytes, left), minOneBatch);
      left = std::max<int64_t>(0, left - static_cast<int64_t>(records.size()));
      if (!records.empty()) minOneBatch = false;
      if (records.empty() && request.sessionEpoch > 0) continue;
      FetchResponse::Partition& partition = topic.partitions.emplace_back();
      partition.partitionIndex = index;
      partition.highWatermark = 1'000'000;
      partition.records = memory.emplace_back(Padded(std::move(records)));
    }
    return response;
  }

 private:
  // To the last byte of what was asked for, as files are: inside a batch if need be, but not inside the first.
  ByteBuffer Read(int32_t index, int64_t offset, int64_t most, bool minOneBatch) {
    ByteBuffer records;
    for (const Batch& batch : logs_[index]) {
      if (batch.lastOffset < offset) continue;
      const int64_t left = most - static_cast<int64_t>(records.size());
      const auto size = static_cast<int64_t>(batch.bytes.size());
      if (records.empty() && size > left) return minOneBatch ? batch.bytes : ByteBuffer();
      Append(records, Bytes(batch.bytes).first(static_cast<size_t>(std::min(size, left))));
      if (size >= left) break;
    }
    return records;
  }

  const std::string topic_;
  std::map<int32_t, std::vector<Batch>> logs_;
  std::map<int32_t, FetchRequest::Partition> session_;
};

class FetchBoundsTest : public InterceptorTest {
 protected:
  FetchBoundsTest() {
    UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}]})");
    guard_ = std::make_unique<FetchGuard>(*shared_, *scratch_, *loop_, connection_, client_);
  }

  struct Reader {
    int32_t maxBytes = 0;
    int32_t partitionMaxBytes = 0;
    bool hasSession = false;
    std::map<int32_t, int64_t> positions;
    std::map<int32_t, std::vector<std::string>> got;
  };

  static std::string Value(const std::string& user, int number, size_t size) {
    return StrCat(R"({"user":")", user, R"(","n":)", number, R"(,"text":")", std::string(size, 'x'), "\"}");
  }

  // A batch of the log, sealed or (a few) as it was before the policy.
  void AppendBatch(Broker& broker, int32_t partition, std::mt19937& random) {
    constexpr Codec kCodecs[] = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};
    std::vector<Broker::Batch>& log = broker.logs()[partition];
    TestBatch batch;
    batch.baseOffset = log.empty() ? 0 : log.back().lastOffset + 1;
    std::vector<TestRecord> records;
    for (int count = 1 + static_cast<int>(random() % 20); count > 0; --count) {
      const std::string user = random() % 5 == 0 ? "gone" : "anna";
      records.push_back(Record("k", Value(user, number_, random() % 800)));
      // Of a batch that nobody sealed everything is read.
      expected_[partition].emplace_back(user == "gone", *records.back().value);
      ++number_;
    }
    const auto count = static_cast<int64_t>(records.size());
    const ByteBuffer produced = ProducedBatch(std::move(records), kCodecs[random() % 5], batch);
    const bool isPlain = random() % 8 == 0;
    if (isPlain) {
      for (auto last = expected_[partition].end() - count; last != expected_[partition].end(); ++last) {
        last->first = false;
      }
    }
    log.push_back({batch.baseOffset + count - 1, isPlain ? produced : Sealed(TaskToSeal(produced))});
  }

  FetchRequest RequestOf(const Reader& reader, int32_t epoch, const std::vector<int32_t>& partitions) const {
    FetchRequest request;
    request.maxBytes = reader.maxBytes;
    request.sessionEpoch = epoch;
    request.sessionId = epoch > 0 ? 77 : 0;
    FetchRequest::Topic& topic = request.topics.emplace_back();
    topic.topic = "clicks";
    for (const int32_t index : partitions) {
      FetchRequest::Partition& partition = topic.partitions.emplace_back();
      partition.partition = index;
      partition.fetchOffset = reader.positions.at(index);
      partition.partitionMaxBytes = reader.partitionMaxBytes;
    }
    if (partitions.empty()) request.topics.clear();
    return request;
  }

  // Takes what the reader does not know yet out of a partition, and moves on.
  static size_t TakeRecords(Reader& reader, int32_t index, Bytes records) {
    kafka::BatchReader batches(records);
    kafka::BatchView batch;
    size_t count = 0;
    while (batches.Next(batch) == kafka::BatchReader::Result::kBatch) {
      ++count;
      int64_t& position = reader.positions[index];
      if (!batch.header.isControl()) {
        for (const TestRecord& record : Read(batch.whole).records) {
          if (batch.header.baseOffset + record.offsetDelta >= position) reader.got[index].push_back(*record.value);
        }
      }
      EXPECT_GE(batch.header.lastOffset() + 1, position);
      position = batch.header.lastOffset() + 1;
    }
    return count;
  }

  // One request and its answer. Returns the partitions that moved on.
  std::vector<int32_t> FetchOnce(Broker& broker, Reader& reader, int32_t epoch,
                                 const std::vector<int32_t>& partitions) {
    std::deque<ByteBuffer> memory;
    RequestResult asked = Request(*guard_, kVersion, RequestOf(reader, epoch, partitions));
    const FetchRequest forwarded = asked.rewritten() ? WrittenRequest<FetchRequest>(asked.written, kVersion)
                                                     : RequestOf(reader, epoch, partitions);
    const FetchResponse sent = broker.Answer(forwarded, memory);
    ResponseResult answer = Response(*guard_, kVersion, sent, asked.verdict.state.get());
    const FetchResponse got = answer.rewritten() ? WrittenResponse<FetchResponse>(answer.written, kVersion) : sent;
    size_t size = 0;
    size_t batches = 0;
    std::vector<int32_t> moved;
    for (const FetchResponse::Partition& partition : got.responses.at(0).partitions) {
      if (partition.records->empty()) continue;
      const size_t inPartition = TakeRecords(reader, partition.partitionIndex, *partition.records);
      EXPECT_TRUE(partition.records->size() <= static_cast<size_t>(reader.partitionMaxBytes) || inPartition == 1)
          << partition.records->size() << " bytes of a partition, asked for " << reader.partitionMaxBytes;
      size += partition.records->size();
      batches += inPartition;
      moved.push_back(partition.partitionIndex);
    }
    EXPECT_TRUE(size <= static_cast<size_t>(reader.maxBytes) || batches == 1)
        << size << " bytes, asked for " << reader.maxBytes;
    return moved;
  }

  void ReadAll(Broker& broker, Reader& reader) {
    std::vector<int32_t> all;
    size_t batches = 0;
    for (const auto& [index, log] : broker.logs()) {
      all.push_back(index);
      reader.positions[index] = 0;
      batches += log.size();
    }
    std::vector<int32_t> changed = all;
    int32_t epoch = reader.hasSession ? 0 : -1;
    for (size_t round = 0; round <= batches; ++round) {
      const std::vector<int32_t> moved = FetchOnce(broker, reader, epoch, epoch > 0 ? changed : all);
      if (moved.empty()) break;  // as there is nothing more, or nothing would ever come
      changed = moved;
      if (reader.hasSession) ++epoch;
    }
    for (const auto& [index, log] : broker.logs()) {
      EXPECT_EQ(reader.positions[index], log.back().lastOffset + 1) << "partition " << index;
      std::vector<std::string> visible;
      for (const auto& [hidden, value] : expected_[index]) {
        if (!hidden) visible.push_back(value);
      }
      EXPECT_EQ(reader.got[index], visible) << "partition " << index;
    }
  }

  int number_ = 0;
  std::map<int32_t, std::vector<std::pair<bool, std::string>>> expected_;  // of a partition: whether it is hidden
  const std::shared_ptr<ClientFacts> client_ = std::make_shared<ClientFacts>();
  std::unique_ptr<FetchGuard> guard_;
};

TEST_F(FetchBoundsTest, whateverIsAskedForEveryRecordComesOnceAndNoResponseIsLarger) {
  std::mt19937 random(1);
  Broker broker("clicks");
  for (int32_t partition = 0; partition < 5; ++partition) {
    for (int i = 0; i < 12; ++i) AppendBatch(broker, partition, random);
  }
  Erase("gone");
  for (int i = 0; i < 30; ++i) {
    Reader reader;
    reader.maxBytes = static_cast<int32_t>(std::exp2(static_cast<double>(random() % 1800) / 100));
    reader.partitionMaxBytes = static_cast<int32_t>(std::exp2(static_cast<double>(random() % 1800) / 100));
    reader.hasSession = random() % 2 == 0;
    ReadAll(broker, reader);
    if (testing::Test::HasFailure()) {
      FAIL() << "maxBytes " << reader.maxBytes << ", of a partition " << reader.partitionMaxBytes << ", session "
             << reader.hasSession;
    }
  }
  guard_.reset();
  EXPECT_EQ(budget_.used(), 0u);
}

// The batches are compressed four to one, so that without their codec the answer would be four times what was asked.
TEST_F(FetchBoundsTest, batchesKeepTheirCodecWhereTheyWouldBeTooManyBytesWithout) {
  Broker broker("clicks");
  std::mt19937 random(2);
  for (int32_t partition = 0; partition < 12; ++partition) {
    for (int i = 0; i < 4; ++i) {
      TestBatch batch;
      batch.baseOffset = 50 * i;
      std::vector<TestRecord> records;
      for (int n = 0; n < 50; ++n) {
        std::string text;
        while (text.size() < 400) text += StrCat(R"("field)", text.size(), R"(":)", random() % 1000, ",");
        records.push_back(Record("k", StrCat(R"({"user":"anna",)", text, R"("last":1})")));
        expected_[partition].emplace_back(false, *records.back().value);
      }
      const ByteBuffer produced = ProducedBatch(std::move(records), Codec::kGzip, batch);
      broker.logs()[partition].push_back({batch.baseOffset + 49, Sealed(TaskToSeal(produced))});
    }
  }
  size_t sealed = 0;
  for (const auto& [index, log] : broker.logs()) {
    for (const Broker::Batch& batch : log) sealed += batch.bytes.size();
  }
  Reader reader;
  reader.maxBytes = static_cast<int32_t>(sealed + 2000);
  reader.partitionMaxBytes = reader.maxBytes;
  for (const auto& [index, log] : broker.logs()) reader.positions[index] = 0;
  FetchOnce(broker, reader, -1, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  for (const auto& [index, position] : reader.positions) EXPECT_EQ(position, 200) << "nothing had to be left out";
}

TEST_F(FetchBoundsTest, aRequestForMoreThanTheAgentHoldsIsLoweredOnItsWay) {
  shared_->limits.fetchBytes = 1 << 20;
  Reader reader;
  reader.maxBytes = 300'000'000;
  reader.partitionMaxBytes = 200'000'000;
  reader.positions[0] = 5;
  const FetchRequest request = RequestOf(reader, -1, {0});
  const RequestResult asked = Request(*guard_, kVersion, request);
  ASSERT_TRUE(asked.rewritten());
  EXPECT_TRUE(asked.wantsResponse());
  const auto lowered = WrittenRequest<FetchRequest>(asked.written, kVersion);
  EXPECT_EQ(lowered.maxBytes, 1 << 20);
  EXPECT_EQ(lowered.topics.at(0).partitions.at(0).partitionMaxBytes, 1 << 20);
  EXPECT_EQ(lowered.topics.at(0).partitions.at(0).fetchOffset, 5);
  reader.maxBytes = 1 << 20;
  reader.partitionMaxBytes = 1000;
  EXPECT_TRUE(Request(*guard_, kVersion, RequestOf(reader, -1, {0})).forwarded());
}

// What a connection has the agent remember is bounded, and ends with it.
TEST_F(FetchBoundsTest, sessionsThatTheBrokerDoesNotKnowTakeNoMemory) {
  FetchRequest request;
  request.maxBytes = 1 << 20;
  request.sessionId = 4711;
  request.sessionEpoch = 5;
  FetchRequest::Topic& topic = request.topics.emplace_back();
  topic.topic = "clicks";
  for (int32_t round = 0; round < 12; ++round) {
    topic.partitions.clear();
    for (int32_t i = 0; i < 20'000; ++i) topic.partitions.emplace_back().partition = round * 20'000 + i;
    RequestResult asked = Request(*guard_, kVersion, request);
    EXPECT_TRUE(asked.wantsResponse());
    EXPECT_LT(budget_.used(), 1u << 20);
  }
}

TEST_F(FetchBoundsTest, sessionsAreForgottenWhenTheBrokerHasNone) {
  FetchRequest request;
  request.maxBytes = 1 << 20;
  request.sessionEpoch = 0;
  FetchRequest::Topic& topic = request.topics.emplace_back();
  topic.topic = "free";
  for (int32_t i = 0; i < 20'000; ++i) topic.partitions.emplace_back().partition = i;
  FetchResponse response;
  {
    RequestResult asked = Request(*guard_, kVersion, request);
    EXPECT_GT(budget_.used(), 500'000u);
    EXPECT_TRUE(Response(*guard_, kVersion, response, asked.verdict.state.get()).forwarded());
  }
  EXPECT_EQ(budget_.used(), 0u) << "the broker gave it no session";
  response.sessionId = 77;
  {
    RequestResult asked = Request(*guard_, kVersion, request);
    EXPECT_TRUE(Response(*guard_, kVersion, response, asked.verdict.state.get()).forwarded());
  }
  EXPECT_GT(budget_.used(), 500'000u);
  request.sessionEpoch = -1;
  request.topics.clear();
  EXPECT_TRUE(Request(*guard_, kVersion, request).forwarded());
  EXPECT_EQ(budget_.used(), 0u) << "the client has closed it";
}

// A session that there is no room for is guarded as one that nothing is known of.
TEST_F(FetchBoundsTest, sessionsWithoutRoomAreGuardedAllTheSame) {
  ASSERT_TRUE(budget_.TryKeep(budget_.limit() / 8));
  FetchRequest request;
  request.maxBytes = 1 << 20;
  request.sessionEpoch = 0;
  FetchRequest::Topic& topic = request.topics.emplace_back();
  topic.topic = "free";
  for (int32_t i = 0; i < 2000; ++i) topic.partitions.emplace_back().partition = i;
  EXPECT_TRUE(Request(*guard_, kVersion, request).wantsResponse());
  budget_.ReleaseKept(budget_.limit() / 8);
}

}  // namespace
}  // namespace kveil::guard
