// A reader gets no more than it asked for, as a broker promises (KIP-74), and yet every record once and in order: with
// a broker and readers that do what real ones do, over batches of all codecs, hidden records and bounds of all sizes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "guard/apis/fetch_guard.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::Codec;
using kafka::FetchRequest;
using kafka::FetchResponse;

using Place = std::pair<std::string, int32_t>;  // a topic and a partition

// Logs of partitions, read as a broker reads them (ReplicaManager.readFromLog).
class Broker {
 public:
  struct Batch {
    int64_t baseOffset = 0;
    int64_t lastOffset = 0;
    ByteBuffer bytes;
  };

  std::map<Place, std::vector<Batch>>& logs() { return logs_; }

  FetchResponse Answer(const FetchRequest& request, std::deque<ByteBuffer>& memory) {
    if (request.sessionEpoch <= 0) session_.clear();
    for (const FetchRequest::Topic& topic : request.topics) {
      for (const FetchRequest::Partition& asked : topic.partitions) Ask(topic.topic, asked);
    }
    FetchResponse response;
    response.sessionId = request.sessionEpoch < 0 ? 0 : 77;
    int64_t left = request.maxBytes;
    bool minOneBatch = true;
    std::vector<Place> hadNone, had;
    for (const Place& place : order_) {
      const auto asked = session_.find(place);
      if (asked == session_.end()) continue;
      ByteBuffer records =
          Read(place, asked->second.fetchOffset, std::min<int64_t>(asked->second.partitionMaxBytes, left), minOneBatch);
      left = std::max<int64_t>(0, left - static_cast<int64_t>(records.size()));
      if (!records.empty()) minOneBatch = false;
      (records.empty() ? hadNone : had).push_back(place);
      if (records.empty() && request.sessionEpoch > 0) continue;
      FetchResponse::Partition& partition = TopicOf(place, response).partitions.emplace_back();
      partition.partitionIndex = place.second;
      partition.highWatermark = 1'000'000;
      partition.records = memory.emplace_back(Padded(std::move(records)));
    }
    // Whoever had something comes last in the next response, whether a session or the client sees to that.
    hadNone.insert(hadNone.end(), had.begin(), had.end());
    order_ = std::move(hadNone);
    return response;
  }

 private:
  void Ask(std::string_view topic, const FetchRequest::Partition& asked) {
    const Place place(topic, asked.partition);
    session_[place] = asked;
    if (std::find(order_.begin(), order_.end(), place) == order_.end()) order_.push_back(place);
  }
  FetchResponse::Topic& TopicOf(const Place& place, FetchResponse& response) const {
    for (FetchResponse::Topic& topic : response.responses) {
      if (topic.topic == place.first) return topic;
    }
    FetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topic = logs_.find(place)->first.first;
    return topic;
  }
  // To the last byte of what was asked for, as files are: inside a batch if need be, but not inside the first.
  ByteBuffer Read(const Place& place, int64_t offset, int64_t most, bool minOneBatch) {
    ByteBuffer records;
    for (const Batch& batch : logs_[place]) {
      if (batch.lastOffset < offset) continue;
      const int64_t left = most - static_cast<int64_t>(records.size());
      const auto size = static_cast<int64_t>(batch.bytes.size());
      if (records.empty() && size > left) return minOneBatch ? batch.bytes : ByteBuffer();
      Append(records, Bytes(batch.bytes).first(static_cast<size_t>(std::min(size, left))));
      if (size >= left) break;
    }
    return records;
  }

  std::map<Place, std::vector<Batch>> logs_;
  std::map<Place, FetchRequest::Partition> session_;
  std::vector<Place> order_;
};

class FetchBoundsTest : public InterceptorTest {
 protected:
  FetchBoundsTest() {
    UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}]},
                 {"name": "private", "seal": {"scope": "topic"}, "read": []})");
    guard_ = std::make_unique<FetchGuard>(Context(client_));
  }

  struct Reader {
    int32_t maxBytes = 0;
    int32_t partitionMaxBytes = 0;
    bool hasSession = false;
    std::map<Place, int64_t> positions;
    std::map<Place, std::vector<std::string>> got;
    std::map<Place, size_t> hungry;  // responses in a row for which the broker gave it records that did not come
    size_t responses = 0;
  };

  // Records of these compress by half with gzip and zstd, and not at all with lz4 and snappy.
  static std::string HexDigits(size_t size, std::mt19937& random) {
    std::string text(size, ' ');
    for (char& digit : text) digit = "0123456789abcdef"[random() % 16];
    return text;
  }
  static std::string Value(const std::string& user, int number, const std::string& text) {
    return StrCat(R"({"user":")", user, R"(","n":)", number, R"(,"text":")", text, "\"}");
  }

  void AppendProduced(Broker& broker, const Place& place, std::vector<TestRecord> records, Codec codec, bool isSealed) {
    std::vector<Broker::Batch>& log = broker.logs()[place];
    TestBatch batch;
    batch.baseOffset = log.empty() ? 0 : log.back().lastOffset + 1;
    const int64_t last = batch.baseOffset + static_cast<int64_t>(records.size()) - 1;
    const ByteBuffer produced = ProducedBatch(std::move(records), codec, batch);
    log.push_back({batch.baseOffset, last, isSealed ? Sealed(TaskToSeal(produced, place.first)) : produced});
  }
  // A batch of the log, sealed or (a few) as it was before the policy.
  void AppendBatch(Broker& broker, int32_t partition, std::mt19937& random) {
    constexpr Codec kCodecs[] = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};
    const Place place("clicks", partition);
    const bool isPlain = random() % 8 == 0;
    const bool isHex = random() % 2 == 0;
    std::vector<TestRecord> records;
    for (int count = 1 + static_cast<int>(random() % 20); count > 0; --count) {
      const std::string user = random() % 5 == 0 ? "gone" : "anna";
      const size_t size = random() % 800;
      records.push_back(Record("k", Value(user, number_++, isHex ? HexDigits(size, random) : std::string(size, 'x'))));
      // Of a batch that nobody sealed everything is read.
      if (isPlain || user == "anna") expected_[place].push_back(*records.back().value);
    }
    AppendProduced(broker, place, std::move(records), kCodecs[random() % 5], !isPlain);
  }
  void AppendBatches(Broker& broker, int32_t partitions, int count, std::mt19937& random) {
    for (int32_t partition = 0; partition < partitions; ++partition) {
      for (int i = 0; i < count; ++i) AppendBatch(broker, partition, random);
    }
  }

  // A batch that is twice as large once it is opened.
  void AppendGrowing(Broker& broker, const Place& place, int count, std::mt19937& random) {
    std::vector<TestRecord> records;
    for (; count > 0; --count) {
      records.push_back(Record("k", Value("anna", number_++, HexDigits(400, random))));
      expected_[place].push_back(*records.back().value);
    }
    AppendProduced(broker, place, std::move(records), Codec::kLz4, true);
  }

  static FetchRequest RequestOf(const Reader& reader, int32_t epoch, const std::vector<Place>& places) {
    FetchRequest request;
    request.maxBytes = reader.maxBytes;
    request.sessionEpoch = epoch;
    request.sessionId = epoch > 0 ? 77 : 0;
    for (const Place& place : places) {
      if (request.topics.empty() || request.topics.back().topic != place.first) {
        request.topics.emplace_back().topic = reader.positions.find(place)->first.first;
      }
      FetchRequest::Partition& partition = request.topics.back().partitions.emplace_back();
      partition.partition = place.second;
      partition.fetchOffset = reader.positions.at(place);
      partition.partitionMaxBytes = reader.partitionMaxBytes;
    }
    return request;
  }

  struct Taken {
    size_t batches = 0;
    int64_t growth = 0;  // of the first
  };
  // Takes what the reader does not know yet out of a partition, and moves on.
  static Taken TakeRecords(Broker& broker, Reader& reader, const Place& place, Bytes records) {
    kafka::BatchReader batches(records);
    kafka::BatchView batch;
    Taken taken;
    while (batches.Next(batch) == kafka::BatchReader::Result::kBatch) {
      int64_t& position = reader.positions[place];
      if (taken.batches++ == 0) {
        for (const Broker::Batch& sent : broker.logs()[place]) {
          if (sent.baseOffset != batch.header.baseOffset) continue;
          taken.growth = static_cast<int64_t>(batch.whole.size()) - static_cast<int64_t>(sent.bytes.size());
        }
      }
      if (!batch.header.isControl()) {
        for (const TestRecord& record : Read(batch.whole).records) {
          if (batch.header.baseOffset + record.offsetDelta >= position) reader.got[place].push_back(*record.value);
        }
      }
      EXPECT_GE(batch.header.lastOffset() + 1, position);
      position = batch.header.lastOffset() + 1;
    }
    return taken;
  }

  // One request and its answer. Returns the partitions that moved on; of what is not protected none does: the reader
  // comes again for the same.
  std::vector<Place> FetchOnce(Broker& broker, Reader& reader, int32_t epoch, const std::vector<Place>& places) {
    std::deque<ByteBuffer> memory;
    const FetchRequest request = RequestOf(reader, epoch, places);
    RequestResult asked = Request(*guard_, kFetchVersion, request);
    const FetchRequest forwarded =
        asked.rewritten() ? WrittenRequest<FetchRequest>(asked.written, kFetchVersion) : request;
    const FetchResponse sent = broker.Answer(forwarded, memory);
    ResponseResult answer = Response(*guard_, kFetchVersion, sent, asked.verdict.state.get());
    const FetchResponse got = answer.rewritten() ? WrittenResponse<FetchResponse>(answer.written, kFetchVersion) : sent;
    ++reader.responses;
    size_t size = 0;
    size_t batches = 0;
    int64_t overdue = 0;
    std::vector<Place> moved;
    for (size_t i = 0; i < got.responses.size(); ++i) {
      for (size_t j = 0; j < got.responses[i].partitions.size(); ++j) {
        const FetchResponse::Partition& partition = got.responses[i].partitions[j];
        const Bytes original = *sent.responses.at(i).partitions.at(j).records;
        const Place place(got.responses[i].topic, partition.partitionIndex);
        size += partition.records->size();
        if (place.first == "private") {
          EXPECT_EQ(partition.errorCode, kafka::ErrorCode::kTopicAuthorizationFailed);
          EXPECT_TRUE(partition.records->empty());
        } else if (place.first == "free") {
          EXPECT_EQ(*partition.records, original);
          if (!original.empty()) ++batches;
        } else {
          size_t& hungry = reader.hungry[place];
          if (partition.records->empty()) {
            if (!original.empty()) ++hungry;
            continue;
          }
          const Taken taken = TakeRecords(broker, reader, place, *partition.records);
          EXPECT_TRUE(partition.records->size() <= static_cast<size_t>(reader.partitionMaxBytes) || taken.batches == 1)
              << partition.records->size() << " bytes of a partition, asked for " << reader.partitionMaxBytes;
          if (std::exchange(hungry, 0) > 0) overdue = std::max(overdue, taken.growth);
          batches += taken.batches;
          moved.push_back(place);
        }
      }
    }
    EXPECT_TRUE(static_cast<int64_t>(size) <= reader.maxBytes + overdue || batches == 1)
        << size << " bytes, asked for " << reader.maxBytes << ", overdue were " << overdue;
    return moved;
  }

  // Reads until it has all that is protected. Each partition has its turn at the latest when each other had one.
  void ReadAll(Broker& broker, Reader& reader, size_t mostResponses) {
    std::vector<Place> all;
    size_t protectedOnes = 0;
    for (const auto& [place, log] : broker.logs()) {
      all.push_back(place);
      reader.positions[place] = 0;
      protectedOnes += place.first == "clicks" ? 1 : 0;
    }
    std::vector<Place> changed = all;
    int32_t epoch = reader.hasSession ? 0 : -1;
    const auto isDone = [&] {
      return std::all_of(expected_.begin(), expected_.end(), [&](const auto& entry) {
        return reader.positions[entry.first] == broker.logs()[entry.first].back().lastOffset + 1;
      });
    };
    while (!isDone() && reader.responses < mostResponses && !HasFailure()) {
      changed = FetchOnce(broker, reader, epoch, epoch > 0 ? changed : all);
      if (reader.hasSession) ++epoch;
      for (const auto& [place, responses] : reader.hungry) {
        EXPECT_LE(responses, protectedOnes) << "partition " << place.second << " starves";
      }
    }
    EXPECT_TRUE(isDone()) << "after " << reader.responses << " responses";
    for (const auto& [place, values] : expected_) EXPECT_EQ(reader.got[place], values) << "partition " << place.second;
  }
  void ReadAllInManyWays(Broker& broker, std::mt19937& random, int readers, size_t mostResponses) {
    for (int i = 0; i < readers; ++i) {
      Reader reader;
      reader.maxBytes = static_cast<int32_t>(std::exp2(static_cast<double>(random() % 1800) / 100));
      reader.partitionMaxBytes = static_cast<int32_t>(std::exp2(static_cast<double>(random() % 1800) / 100));
      reader.hasSession = random() % 2 == 0;
      ReadAll(broker, reader, mostResponses);
      if (HasFailure()) {
        FAIL() << "maxBytes " << reader.maxBytes << ", of a partition " << reader.partitionMaxBytes << ", session "
               << reader.hasSession;
      }
    }
  }

  int number_ = 0;
  std::map<Place, std::vector<std::string>> expected_;  // what is visible
  const std::shared_ptr<ClientFacts> client_ = std::make_shared<ClientFacts>();
  std::unique_ptr<FetchGuard> guard_;
};

TEST_F(FetchBoundsTest, WhateverIsAskedForEveryRecordComesOnceAndNoResponseIsLarger) {
  std::mt19937 random(1);
  Broker broker;
  AppendBatches(broker, 5, 12, random);
  Erase("gone");
  ReadAllInManyWays(broker, random, 30, 5 * 12);
  guard_.reset();
  EXPECT_EQ(budget_.used(), 0u);
}

// What is not protected, or denied, always has records, and fills what was asked for.
TEST_F(FetchBoundsTest, NoPartitionStarvesBesideTopicsThatAreAlwaysThere) {
  std::mt19937 random(3);
  Broker broker;
  AppendBatches(broker, 4, 10, random);
  for (int32_t partition = 0; partition < 2; ++partition) {
    for (int i = 0; i < 20; ++i) {
      const std::string text = HexDigits(random() % 3000, random);
      AppendProduced(broker, {"free", partition}, {Record("k", text)}, Codec::kNone, false);
      AppendProduced(broker, {"private", partition}, {Record("k", text)}, Codec::kNone, true);
    }
  }
  Erase("gone");
  ReadAllInManyWays(broker, random, 20, 8 * 4 * 10);
}

// A reader that lags is sent as much as it asked for, sealed: what is behind a batch makes room for it.
TEST_F(FetchBoundsTest, AReaderThatLagsGetsAsManyBatchesAsFit) {
  std::mt19937 random(4);
  Broker broker;
  const Place place("clicks", 0);
  for (int i = 0; i < 60; ++i) AppendGrowing(broker, place, 10, random);
  Reader reader;
  reader.maxBytes = 20 * static_cast<int32_t>(broker.logs()[place].front().bytes.size());
  reader.partitionMaxBytes = 2 * reader.maxBytes;
  ReadAll(broker, reader, 60);
  EXPECT_LE(reader.responses, 6u) << "of 20 batches in a response at least half should fit";
}

// Each partition has something left over in each response, so none must go on being the first.
TEST_F(FetchBoundsTest, PartitionsThatAreDueTakeTurns) {
  std::mt19937 random(5);
  Broker broker;
  AppendProduced(broker, {"free", 0}, {Record("k", "v")}, Codec::kNone, false);
  size_t sealed = 0;
  for (int32_t partition = 0; partition < 3; ++partition) {
    const Place place("clicks", partition);
    for (int i = 0; i < 6; ++i) {
      AppendGrowing(broker, place, 10, random);
      AppendGrowing(broker, place, 1, random);
      const std::vector<Broker::Batch>& log = broker.logs()[place];
      sealed = std::max(sealed, log.back().bytes.size() + log[log.size() - 2].bytes.size());
    }
  }
  Reader reader;
  reader.partitionMaxBytes = static_cast<int32_t>(sealed);
  reader.maxBytes = static_cast<int32_t>(3 * sealed + broker.logs()[{"free", 0}].front().bytes.size());
  ReadAll(broker, reader, 100);
}

// The batches are compressed four to one, so that without their codec the answer would be four times what was asked.
TEST_F(FetchBoundsTest, BatchesKeepTheirCodecWhereTheyWouldBeTooManyBytesWithout) {
  Broker broker;
  std::mt19937 random(2);
  std::vector<Place> all;
  Reader reader;
  for (int32_t partition = 0; partition < 12; ++partition) {
    all.emplace_back("clicks", partition);
    reader.positions[all.back()] = 0;
    for (int i = 0; i < 4; ++i) {
      std::vector<TestRecord> records;
      for (int n = 0; n < 50; ++n) {
        std::string text;
        while (text.size() < 400) text += StrCat(R"("field)", text.size(), R"(":)", random() % 1000, ",");
        records.push_back(Record("k", StrCat(R"({"user":"anna",)", text, R"("last":1})")));
      }
      AppendProduced(broker, all.back(), std::move(records), Codec::kGzip, true);
    }
  }
  size_t sealed = 0;
  for (const auto& [place, log] : broker.logs()) {
    for (const Broker::Batch& batch : log) sealed += batch.bytes.size();
  }
  reader.maxBytes = static_cast<int32_t>(sealed + 2000);
  reader.partitionMaxBytes = reader.maxBytes;
  FetchOnce(broker, reader, -1, all);
  for (const auto& [place, position] : reader.positions) EXPECT_EQ(position, 200) << "nothing had to be left out";
}

TEST_F(FetchBoundsTest, ARequestForMoreThanTheAgentHoldsIsLoweredOnItsWay) {
  shared_->limits.fetchBytes = 1 << 20;
  Reader reader;
  reader.maxBytes = 300'000'000;
  reader.partitionMaxBytes = 200'000'000;
  const Place place("clicks", 0);
  reader.positions[place] = 5;
  const FetchRequest request = RequestOf(reader, -1, {place});
  const RequestResult asked = Request(*guard_, kFetchVersion, request);
  ASSERT_TRUE(asked.rewritten());
  EXPECT_TRUE(asked.wantsResponse());
  const auto lowered = WrittenRequest<FetchRequest>(asked.written, kFetchVersion);
  EXPECT_EQ(lowered.maxBytes, 1 << 20);
  EXPECT_EQ(lowered.topics.at(0).partitions.at(0).partitionMaxBytes, 1 << 20);
  EXPECT_EQ(lowered.topics.at(0).partitions.at(0).fetchOffset, 5);
  reader.maxBytes = 1 << 20;
  reader.partitionMaxBytes = 1000;
  EXPECT_TRUE(Request(*guard_, kFetchVersion, RequestOf(reader, -1, {place})).forwarded());
}

}  // namespace
}  // namespace kveil::guard
