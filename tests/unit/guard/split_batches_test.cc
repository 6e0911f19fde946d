// Batches that sealing makes too large for their topic: how they reach the broker, and what the producer hears.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <utility>

#include "produce_fixture.h"

namespace kveil::guard {
namespace {

using ::testing::ElementsAre;

// A broker with one partition. As Kafka's, it remembers the last five batches of the producer, takes any first sequence
// of one that it does not know, and then only the next.
class SplitBatchTest : public TopicLimitTest {
 protected:
  SplitBatchTest() {
    Limit(42'500);
    upstream_.respond = [this](const FakeUpstream::Asked& asked) -> absl::StatusOr<ByteBuffer> {
      if (asked.apiKey == kafka::ApiKey::kDescribeConfigs) {
        return LimitAnswer(told_, mayAsk_ ? ErrorCode::kNone : ErrorCode::kTopicAuthorizationFailed);
      }
      EXPECT_EQ(asked.apiKey, kafka::ApiKey::kProduce);
      EXPECT_EQ(asked.clientId, "a client") << "the broker counts it for somebody else";
      if (connectionIsLost_) return absl::UnavailableError("the broker has closed the connection");
      const auto request = kafka::Decode<ProduceRequest>(asked.body, asked.version);
      EXPECT_TRUE(request.ok()) << request.status();
      ByteBuffer answer = BodyOf(Take(*request), asked.version);
      upstream_.isApplicationGone = goesAfterAPart_;
      return answer;
    };
    batch_ = Whole(100);
  }

  void Limit(size_t bytes, std::chrono::seconds ago = {}) {
    shared_->topicLimits.Learn(connection_, "orders", bytes, TopicLimits::Clock::now() - ago);
  }
  // Of a principal that may not ask for it.
  void HideLimit(size_t bytes = 1 << 20) {
    shared_->topicLimits.Forget(connection_, "orders");
    mayAsk_ = false;
    takesAtMost_ = bytes;
  }
  ByteBuffer Whole(int32_t sequence, int16_t attributes = 0, kafka::Codec codec = kafka::Codec::kNone) {
    TestBatch fields;
    fields.producerId = 7;
    fields.producerEpoch = 0;
    fields.baseSequence = sequence;
    fields.attributes = attributes;
    return ProducedBatch(records_, codec, fields);
  }

  // Appends what the request holds, or answers with what the test put into `errors_`.
  ProduceResponse Take(const ProduceRequest& request) {
    acks_ = request.acks;
    ProduceResponse response = Accepted(request);
    for (size_t i = 0; i < request.topicData.size(); ++i) {
      for (size_t j = 0; j < request.topicData[i].partitionData.size(); ++j) {
        ProduceResponse::Partition& answer = response.responses[i].partitionResponses[j];
        answer.baseOffset = -1;
        ErrorCode error = ErrorCode::kNone;
        if (!errors_.empty()) {
          error = errors_.front();
          errors_.pop_front();
        }
        if (error == ErrorCode::kNone && request.topicData[i].partitionData[j].records->size() > takesAtMost_) {
          error = ErrorCode::kMessageTooLarge;
        }
        if (error == ErrorCode::kNone) {
          Append(Read(*request.topicData[i].partitionData[j].records), answer);
        } else {
          answer.errorCode = error;
          answer.errorMessage = refusal_;
          answer.recordErrors.resize(recordErrors_, {.batchIndex = 3, .batchIndexErrorMessage = refusal_});
        }
      }
    }
    return response;
  }
  void Append(ReadBatch batch, ProduceResponse::Partition& answer) {
    const int32_t first = batch.header.baseSequence;
    const std::pair<int32_t, int32_t> sequences(first, first + batch.header.count);
    if (batch.header.isIdempotent()) {
      if (std::find(known_.begin(), known_.end(), sequences) != known_.end()) return;
      if (!known_.empty() && first != known_.back().second) {
        answer.errorCode = ErrorCode::kOutOfOrderSequenceNumber;
        return;
      }
      known_.push_back(sequences);
      if (known_.size() > 5) known_.pop_front();
    }
    answer.baseOffset = nextOffset_;
    nextOffset_ += batch.header.count + others_;
    taken_.push_back(std::move(batch));
  }
  size_t TakenRecords() const {
    size_t count = 0;
    for (const ReadBatch& batch : taken_) count += batch.records.size();
    return count;
  }

  // A request through the broker; what the producer hears of it.
  ProduceResponse Finish(RequestResult result, int16_t version = 9) {
    if (result.answered()) return WrittenResponse<ProduceResponse>(result.written, version);
    forwarded_ = WrittenRequest<ProduceRequest>(result.written, version);
    const ProduceResponse said = Take(forwarded_);
    if (result.verdict.state == nullptr) return said;
    const ResponseResult told = Response(*guard_, version, said, result.verdict.state.get());
    EXPECT_TRUE(told.rewritten());
    return WrittenResponse<ProduceResponse>(told.written, version);
  }
  ProduceResponse::Partition Answer(Bytes batch, int16_t version = 9) {
    const ProduceResponse response = Finish(Produce({Topic("orders", {{0, batch}})}, version), version);
    EXPECT_EQ(response.responses.size(), 1u);
    EXPECT_EQ(response.responses.at(0).partitionResponses.size(), 1u);
    return response.responses.at(0).partitionResponses.at(0);
  }
  SplitMemory::BatchId IdOf(Bytes batch) const {
    const kafka::BatchHeader header = ViewOf(batch).header;
    SplitMemory::BatchId id;
    id.producer.producerId = 7;
    id.producer.producerEpoch = 0;
    id.producer.workload = connection_.workload.share;
    id.producer.cluster = connection_.cluster;
    id.producer.topic = "orders";
    id.baseSequence = header.baseSequence;
    id.records = header.count;
    id.crc = header.crc;
    return id;
  }
  int Send(Bytes batch) { return static_cast<int>(Answer(batch).errorCode); }

  std::vector<ReadBatch> taken_;
  std::deque<std::pair<int32_t, int32_t>> known_;
  std::deque<ErrorCode> errors_;  // of the next batches
  size_t recordErrors_ = 1;
  std::string refusal_ = "the broker says no";
  std::string told_ = "42500";  // as the topic's limit
  int64_t nextOffset_ = 900;
  int64_t others_ = 0;  // records of other producers behind each batch
  int16_t acks_ = 0;
  size_t takesAtMost_ = 1 << 20;
  bool mayAsk_ = true;  // what the topic's limit is
  bool goesAfterAPart_ = false;
  bool connectionIsLost_ = false;
  ProduceRequest forwarded_;
};

TEST_F(SplitBatchTest, GoesInPartsThatTheProducerHearsOfAsOfOne) {
  int32_t sequence = 100;
  for (const int16_t version : {3, 9, 12}) {
    taken_.clear();
    const int64_t offset = nextOffset_;
    const auto told = Answer(Whole(sequence), version);
    EXPECT_EQ(told.errorCode, ErrorCode::kNone);
    EXPECT_EQ(told.baseOffset, offset);
    ASSERT_EQ(taken_.size(), 2u);
    size_t index = 0;
    for (const ReadBatch& part : taken_) {
      EXPECT_LE(part.header.size(), 42'500u);
      EXPECT_EQ(part.header.baseSequence, sequence);
      EXPECT_EQ(part.header.producerId, 7);
      EXPECT_EQ(part.header.lastOffsetDelta, part.header.count - 1);
      sequence += part.header.count;
      for (const TestRecord& record : part.records) {
        ASSERT_EQ(record.headers.size(), 1u) << "not sealed";
        EXPECT_EQ(record.key, records_.at(index).key);
        EXPECT_NE(record.value, records_.at(index++).value);
      }
    }
    EXPECT_EQ(index, records_.size());
    EXPECT_EQ(acks_, -1);
  }
  EXPECT_NE(metrics_.Text().find("kveil_batches_split_total 3\n"), std::string::npos);
}

TEST_F(SplitBatchTest, GoesInAsManyPartsAsItTakes) {
  records_.assign(4000, Record(std::nullopt, "x"));
  TestBatch fields;
  fields.producerId = 7;
  fields.baseSequence = 100;
  Limit(15'000);
  const ByteBuffer batch = ProducedBatch(records_, kafka::Codec::kGzip, fields);
  EXPECT_EQ(Send(batch), 0);
  EXPECT_GT(taken_.size(), 5u) << "as many as the broker remembers";
  int32_t count = 0;
  for (const ReadBatch& part : taken_) {
    EXPECT_EQ(part.header.baseSequence, 100 + count);
    count += part.header.count;
  }
  EXPECT_EQ(count, 4000);
  EXPECT_EQ(Send(batch), 0) << "the answer was lost, the producer sends it again";
  EXPECT_EQ(TakenRecords(), 4000u);
}

TEST_F(SplitBatchTest, OfTooManyPartsIsRefused) {
  records_.assign(4000, Record(std::nullopt, std::string(2000, 'x')));
  const ByteBuffer batch = ProducedBatch(records_, kafka::Codec::kGzip);
  Limit(batch.size());
  EXPECT_EQ(Send(batch), 10);
  EXPECT_TRUE(taken_.empty());
}

// Nothing that the agent remembered is there any more, and its keys and salts are others.
TEST_F(SplitBatchTest, IsCutAlikeAfterARestart) {
  const RequestResult lost = Produce({Topic("orders", {{0, batch_}})});
  Take(WrittenRequest<ProduceRequest>(lost.written, 9));
  ASSERT_EQ(TakenRecords(), 300u);
  for (int i = 0; i < 20; ++i) {
    shared_ = std::make_unique<SharedState>(*policies_, metrics_, brokers_, GuardLimits());
    guard_ = NewConnection();
    Limit(42'500);
    const auto again = Answer(batch_);
    ASSERT_EQ(again.errorCode, ErrorCode::kNone);
    ASSERT_EQ(TakenRecords(), 300u);
  }
}

// It comes again on another connection, and the rest of it here could get behind that.
TEST_F(SplitBatchTest, IsNotSentFurtherWhenItsProducerHasGone) {
  goesAfterAPart_ = true;
  const RequestResult result = Produce({Topic("orders", {{0, batch_}})});
  EXPECT_TRUE(result.closed());
  EXPECT_EQ(taken_.size(), 1u);
  goesAfterAPart_ = false;
  guard_ = NewConnection();
  EXPECT_EQ(Send(batch_), 0);
  EXPECT_EQ(TakenRecords(), 300u);
}

TEST_F(SplitBatchTest, HasTheOffsetOfItsFirstRecordAlsoWithOthersInBetween) {
  others_ = 1;
  const auto told = Answer(batch_);
  EXPECT_EQ(told.errorCode, ErrorCode::kNone);
  EXPECT_EQ(told.baseOffset, 900);
}

TEST_F(SplitBatchTest, FailsWithItsFirstPartAndKeepsTheProducersOrder) {
  errors_ = {ErrorCode::kNotLeaderOrFollower};
  const auto told = Answer(batch_);
  EXPECT_EQ(told.errorCode, ErrorCode::kNotLeaderOrFollower);
  EXPECT_EQ(told.baseOffset, -1);
  EXPECT_EQ(told.errorMessage, "the broker says no");
  EXPECT_EQ(told.recordErrors.at(0).batchIndex, 3);
  EXPECT_TRUE(taken_.empty()) << "a part got past the one that was refused";
  const ByteBuffer next = BatchOf(400, Record("k", "small"));
  EXPECT_EQ(Send(next), 19) << "it got in before";
  EXPECT_EQ(Send(batch_), 0);
  EXPECT_EQ(Send(next), 0);
  EXPECT_EQ(TakenRecords(), 301u);
}

// The answer refers to the message, which is longer than what a frame copies.
TEST_F(SplitBatchTest, PassesOnALongMessageOfTheBroker) {
  refusal_ = std::string(1000, 'm');
  for (const bool first : {true, false}) {
    errors_ = {first ? ErrorCode::kInvalidRecord : ErrorCode::kNone, ErrorCode::kInvalidRecord};
    EXPECT_EQ(Answer(batch_).errorMessage, refusal_);
  }
}

// Nobody can have the agent remember more of an answer than a producer can make use of.
TEST_F(SplitBatchTest, IsRefusedWithAsManyRecordErrorsAsThereIsRoomFor) {
  errors_ = {ErrorCode::kInvalidRecord};
  recordErrors_ = 20'000;
  refusal_ = std::string(100, 'm');
  const size_t told = Answer(batch_).recordErrors.size();
  EXPECT_GT(told, 5'000u);
  EXPECT_LT(told, 10'000u);
}

TEST_F(SplitBatchTest, FailsWithItsLastPartAndIsMadeWholeBySendingItAgain) {
  errors_ = {ErrorCode::kNone, ErrorCode::kNotEnoughReplicas};
  const auto told = Answer(batch_);
  EXPECT_EQ(told.errorCode, ErrorCode::kNotEnoughReplicas);
  EXPECT_EQ(told.baseOffset, -1);
  ASSERT_EQ(taken_.size(), 1u);
  EXPECT_EQ(told.recordErrors.at(0).batchIndex, taken_[0].header.count + 3);
  Limit(2'000'000);  // cut as before nevertheless, or the broker would not know the first part
  const auto again = Answer(batch_);
  EXPECT_EQ(again.errorCode, ErrorCode::kNone);
  EXPECT_EQ(again.baseOffset, 900);
  EXPECT_EQ(TakenRecords(), 300u);
}

TEST_F(SplitBatchTest, CanBeSentAgainWithFiveInFlight) {
  EXPECT_EQ(Send(batch_), 0);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Send(BatchOf(400 + i, Record("k", "small"))), 0);
  const auto again = Answer(batch_);
  EXPECT_EQ(again.errorCode, ErrorCode::kNone);
  EXPECT_EQ(again.baseOffset, 900);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Send(BatchOf(400 + i, Record("k", "small"))), 0);
  EXPECT_EQ(TakenRecords(), 304u);
}

TEST_F(SplitBatchTest, CanBeSentAgainWithFiveSplitOnesInFlight) {
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 5; ++i) EXPECT_EQ(Send(Whole(100 + 300 * i)), 0) << round << " " << i;
  }
  EXPECT_EQ(TakenRecords(), 1500u);
  EXPECT_EQ(Send(Whole(1600)), 0);
}

// The agent does not know what became of the last part, and the broker does not remember the first.
TEST_F(SplitBatchTest, CanBeSentAgainThoughItsFirstPartIsForgotten) {
  connectionIsLost_ = false;
  const RequestResult lost = Produce({Topic("orders", {{0, batch_}})});
  Take(WrittenRequest<ProduceRequest>(lost.written, 9));
  ASSERT_EQ(TakenRecords(), 300u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(Send(BatchOf(400 + i, Record("k", "small"))), 0);
  EXPECT_EQ(Send(batch_), 0);
  EXPECT_EQ(TakenRecords(), 304u);
}

// The leader changed while both were in flight.
TEST_F(SplitBatchTest, DoesNotHoldUpAnEarlierOne) {
  const ByteBuffer earlier = BatchOf(99, Record("k", "small"));
  errors_ = {ErrorCode::kNotLeaderOrFollower, ErrorCode::kNotLeaderOrFollower};
  EXPECT_EQ(Send(earlier), 6);
  EXPECT_EQ(Send(batch_), 6);
  EXPECT_EQ(Send(earlier), 0);
  EXPECT_EQ(Send(batch_), 0);
  EXPECT_EQ(Send(earlier), 0);
  EXPECT_EQ(TakenRecords(), 301u);
}

// It may close as soon as it has sent everything.
TEST_F(SplitBatchTest, WithoutAcknowledgementsIsSentWholeThoughItsProducerHasGone) {
  goesAfterAPart_ = true;
  const RequestResult result = Produce({Topic("orders", {{0, ProducedBatch(records_)}})}, 9, 0);
  ASSERT_TRUE(result.rewritten());
  Take(WrittenRequest<ProduceRequest>(result.written, 9));
  EXPECT_EQ(TakenRecords(), 300u);
}

// franz-go gives the sequence numbers of a batch that failed to the next one. The broker would take a part of this for
// the part of the other that it has.
TEST_F(SplitBatchTest, IsNotSentInPlaceOfAnotherThatIsInTheLogInPart) {
  for (const ErrorCode error : {ErrorCode::kInvalidRecord, ErrorCode::kNotEnoughReplicas}) {
    known_.clear();
    errors_ = {ErrorCode::kNone, error};
    EXPECT_EQ(Send(batch_), static_cast<int>(error));
    const size_t before = TakenRecords();
    std::vector<TestRecord> others(150, Record("other", "small"));
    TestBatch fields;
    fields.producerId = 7;
    fields.producerEpoch = 0;
    fields.baseSequence = 100;
    EXPECT_EQ(Send(ProducedBatch(others, kafka::Codec::kNone, fields)), 45) << "as many as the first part";
    for (TestRecord& record : records_) record.value = Noise(130);
    EXPECT_EQ(Send(Whole(100)), 45) << "cut alike";
    EXPECT_EQ(TakenRecords(), before);
    known_.clear();
    EXPECT_EQ(Send(BatchOf(100, Record("k", "small"), 1)), 0) << "a new epoch";
    shared_->splits.Forget(IdOf(batch_), SplitMemory::Clock::now());
  }
}

TEST_F(SplitBatchTest, MayTakeThePlaceOfAnotherOfWhichNothingIsInTheLog) {
  errors_ = {ErrorCode::kInvalidRecord};
  EXPECT_EQ(Send(batch_), 87);
  for (TestRecord& record : records_) record.value = Noise(130);
  EXPECT_EQ(Send(Whole(100)), 0);
  EXPECT_EQ(TakenRecords(), 300u);
}

// The leader may change when the batch is in the log and waits for the replicas.
TEST_F(SplitBatchTest, IsNotSentInPlaceOfAnotherThatMayBeInTheLog) {
  const ErrorCode codes[] = {ErrorCode::kNotLeaderOrFollower, ErrorCode::kUnknownTopicOrPartition,
                             ErrorCode::kRequestTimedOut,     ErrorCode::kNotEnoughReplicasAfterAppend,
                             ErrorCode::kUnknownServerError,  ErrorCode::kKafkaStorageError,
                             ErrorCode::kNotLeaderOrFollower, ErrorCode::kConcurrentTransactions};
  int32_t sequence = 100;
  for (const ErrorCode code : codes) {
    known_.clear();
    errors_ = {code};
    EXPECT_EQ(Send(Whole(sequence)), static_cast<int>(code));
    for (TestRecord& record : records_) record.value = Noise(130);
    EXPECT_EQ(Send(Whole(sequence)), 45) << static_cast<int>(code);
    sequence += 300;
    shared_->refusals.Check(IdOf(batch_).producer, sequence - 300, RefusalMemory::Clock::now());
  }
}

// Producer ids begin anew.
TEST_F(SplitBatchTest, IsSentToANewClusterOfTheSameName) {
  EXPECT_EQ(Send(batch_), 0);
  taken_.clear();
  known_.clear();
  for (TestRecord& record : records_) record.value = Noise(130);
  EXPECT_EQ(Send(Whole(100)), 0);
  EXPECT_EQ(TakenRecords(), 300u);
}

// Of another workload's producer that says it has the same id, whatever is done with it.
TEST_F(SplitBatchTest, DoesNotConcernTheOtherWorkloads) {
  const std::string share = std::exchange(connection_.workload.share, "/attacker");
  errors_ = {ErrorCode::kRequestTimedOut};
  EXPECT_EQ(Send(batch_), 7);
  const ByteBuffer attackers = batch_;
  for (TestRecord& record : records_) record.value = Noise(130);
  EXPECT_EQ(Send(Whole(100)), 45);
  connection_.workload.share = share;
  guard_ = NewConnection();
  EXPECT_EQ(Send(Whole(100)), 0);
  EXPECT_EQ(Send(Whole(400)), 0);
  connection_.workload.share = "/attacker";
  known_.clear();
  EXPECT_EQ(Send(attackers), 0) << "its own is refused";
  connection_.workload.share = share;
  taken_.clear();
  known_.clear();
  EXPECT_EQ(Send(attackers), 0);
  EXPECT_EQ(TakenRecords(), 300u) << "not sent, as the other's was taken";
}

TEST_F(SplitBatchTest, DoesNotConcernTheOtherPartitions) {
  const ByteBuffer small = ProducedBatch({Record("k", "small")});
  errors_ = {ErrorCode::kNotEnoughReplicas};
  const auto told = Finish(Produce({Topic("clicks", {{2, bad_}}), Topic("orders", {{0, batch_}, {1, small}})}));
  EXPECT_THAT(Lines(told), ElementsAre("clicks/2 87 -1", "orders/0 19 -1", "orders/1 0 900"));
  EXPECT_EQ(forwarded_.topicData.at(0).partitionData.size(), 1u);
}

TEST_F(SplitBatchTest, IsTakenOutOfATopicThatIsListedTwice) {
  errors_ = {ErrorCode::kNotLeaderOrFollower};
  const ByteBuffer small = ProducedBatch({Record("k", "small")});
  const auto told = Finish(Produce({Topic("orders", {{1, small}}), Topic("orders", {{0, batch_}})}));
  size_t forwarded = 0;
  for (const auto& topic : forwarded_.topicData) forwarded += topic.partitionData.size();
  EXPECT_EQ(forwarded, 1u) << "the last part went although the first was refused";
  EXPECT_EQ(Lines(told).size(), 2u);
}

TEST_F(SplitBatchTest, WithoutAcknowledgementsWaitsForThoseOfItsParts) {
  batch_ = ProducedBatch(records_);
  const RequestResult result = Produce({Topic("orders", {{0, batch_}})}, 9, 0);
  ASSERT_TRUE(result.rewritten());
  EXPECT_FALSE(result.verdict.expectResponse);
  EXPECT_EQ(acks_, 1);
  EXPECT_EQ(WrittenRequest<ProduceRequest>(result.written, 9).acks, 0);
  errors_ = {ErrorCode::kNotLeaderOrFollower};
  EXPECT_TRUE(Produce({Topic("orders", {{0, batch_}})}, 9, 0).closed());
  known_.clear();
  EXPECT_EQ(Send(batch_), 0);
  EXPECT_TRUE(Produce({Topic("orders", {{0, batch_}})}, 9, 0).rewritten()) << "answered, though no answer is due";
}

TEST_F(SplitBatchTest, EndsTheConnectionWhenItsFateIsNotKnown) {
  connectionIsLost_ = true;
  EXPECT_TRUE(Produce({Topic("orders", {{0, batch_}})}).closed());
}

TEST_F(SplitBatchTest, IsNotOneThatTheBrokerWouldNotHaveTakenEither) {
  Limit(batch_.size() - 1);
  EXPECT_EQ(Send(batch_), 10);
  EXPECT_EQ(Send(ProducedBatch({Record("k", std::string(50'000, 'x'))})), 10) << "compressed where nobody asked for it";
}

TEST_F(SplitBatchTest, IsNeverOneRecord) { EXPECT_EQ(Send(ProducedBatch({Record("k", Noise(42'400, 256))})), 10); }

TEST_F(SplitBatchTest, IsSealedAnewWhenTheLimitTurnsOutToBeGreater) {
  Limit(30'000, std::chrono::seconds(30));
  EXPECT_EQ(Send(batch_), 0) << "the broker takes 42,500 bytes now, and the batch has " << batch_.size();
  EXPECT_EQ(taken_.size(), 2u);
}

// To a principal that may not ask for it.
TEST_F(SplitBatchTest, OfUnknownLimitThatTheBrokerRefusesIsCutSmallerAtOnce) {
  HideLimit(42'500);
  const auto told = Answer(batch_);
  EXPECT_EQ(told.errorCode, ErrorCode::kNone);
  EXPECT_EQ(told.baseOffset, 900);
  EXPECT_EQ(taken_.size(), 2u);
  EXPECT_EQ(Send(BatchOf(400, Record("k", "small"))), 0);
  EXPECT_EQ(Send(batch_), 0) << "sent again, which the broker knows";
  EXPECT_EQ(Send(Whole(401)), 0);
  EXPECT_EQ(TakenRecords(), 601u);
  EXPECT_NE(metrics_.Text().find("kveil_batches_split_total 2\n"), std::string::npos);
}

// The limit is assumed to be 1 MiB. Two parts are cut for that: the first is small, as its values compress one by one;
// those of the second compress only together, as they came.
TEST_F(SplitBatchTest, OfUnknownLimitStaysAsItIsInTheLogAndIsCutSmallerBehindThat) {
  HideLimit(650'000);
  records_.assign(600, Record("k", std::string(1500, 'x')));
  const std::string noise = Noise(1500);
  for (int i = 0; i < 700; ++i) records_.push_back(Record(StrCat("noise", i), noise));
  const ByteBuffer batch = Whole(100, 0, kafka::Codec::kZstd);
  ASSERT_LT(batch.size(), 50'000u);
  // The broker takes the first part, then of what is behind it two.
  errors_ = {ErrorCode::kNone, ErrorCode::kNone, ErrorCode::kNone, ErrorCode::kNone, ErrorCode::kNotEnoughReplicas};
  EXPECT_EQ(Send(batch), 19);
  ASSERT_EQ(taken_.size(), 3u);
  EXPECT_GT(taken_[0].header.count, 600);
  EXPECT_LT(taken_[1].header.count, 50);
  const ByteBuffer next = BatchOf(1400, Record("k", "small"));
  EXPECT_EQ(Send(next), 19) << "it got in before";
  const auto told = Answer(batch);
  EXPECT_EQ(told.errorCode, ErrorCode::kNone);
  EXPECT_EQ(told.baseOffset, 900);
  EXPECT_EQ(Send(next), 0);
  // Nothing that the agent remembered is there any more, and the broker has forgotten all but the last five.
  shared_ = std::make_unique<SharedState>(*policies_, metrics_, brokers_, GuardLimits());
  guard_ = NewConnection();
  EXPECT_EQ(Send(batch), 0) << "the answer was lost";
  ASSERT_EQ(TakenRecords(), 1301u);
  records_.push_back(Record("k", "small"));
  size_t index = 0;
  for (const ReadBatch& part : taken_) {
    EXPECT_EQ(part.header.baseSequence, static_cast<int32_t>(100 + index));
    for (const TestRecord& record : part.records) EXPECT_EQ(record.key, records_.at(index++).key);
  }
}

// Only what is larger than it came is cut: the rest is the broker's to refuse.
TEST_F(SplitBatchTest, OfUnknownLimitThatIsTooLargeAsItCameIsRefused) {
  HideLimit(batch_.size() / 3);
  EXPECT_EQ(Send(batch_), 10);
  EXPECT_TRUE(taken_.empty());
  EXPECT_EQ(Send(BatchOf(400, Record("k", "small"))), 19) << "smaller ones with its sequence numbers come first";
  EXPECT_EQ(Send(BatchOf(100, Record("k", "small"))), 0);
}

// Whoever may write to a topic may send what it does not take: those that come after are cut no other way.
TEST_F(SplitBatchTest, OfUnknownLimitIsCutAlikeWhateverOthersSent) {
  HideLimit(600'000);
  EXPECT_EQ(Send(batch_), 0);
  ASSERT_EQ(taken_.size(), 1u);
  shared_ = std::make_unique<SharedState>(*policies_, metrics_, brokers_, GuardLimits());
  guard_ = NewConnection();
  const ByteBuffer tooLarge = ProducedBatch({Record("k", Noise(700'000, 256)), Record("k", Noise(700'000, 256))});
  EXPECT_EQ(Send(tooLarge), 10);
  EXPECT_EQ(Send(batch_), 0) << "the answer was lost";
  EXPECT_EQ(taken_.size(), 1u);
}

TEST_F(SplitBatchTest, OfUnknownLimitIsCutSmallerAlsoWithoutAcknowledgements) {
  HideLimit(42'500);
  const RequestResult result = Produce({Topic("orders", {{0, ProducedBatch(records_)}})}, 9, 0);
  EXPECT_TRUE(result.rewritten());
  EXPECT_EQ(TakenRecords(), 300u);
}

TEST_F(SplitBatchTest, OfUnknownLimitGoesAheadUntilTheBrokerHasTakenOneAsLarge) {
  HideLimit();
  EXPECT_EQ(Send(batch_), 0);
  EXPECT_EQ(upstream_.asked.size(), 2u) << "for the limit, and with the batch";
  EXPECT_EQ(taken_.size(), 1u);
  EXPECT_EQ(Answer(Whole(400)).baseOffset, 1200);
  EXPECT_EQ(upstream_.asked.size(), 2u);
  EXPECT_EQ(Send(batch_), 0) << "sent again, which the broker knows";
  EXPECT_EQ(TakenRecords(), 600u);
}

// It compresses well as it came, and sealed not at all.
TEST_F(SplitBatchTest, OfUnknownLimitAndFewBytesGoesInPartsAfterItWasRefused) {
  HideLimit(4'500);
  records_.clear();
  for (int i = 0; i < 60; ++i) records_.push_back(Record("k", std::string(30, 'x') + Noise(40)));
  const ByteBuffer few = Whole(100, 0, kafka::Codec::kZstd);
  ASSERT_LT(few.size(), 4096u);
  EXPECT_EQ(Send(few), 0);
  EXPECT_EQ(TakenRecords(), 60u);
}

TEST_F(SplitBatchTest, OfUnknownLimitAndFewBytesGoesAheadOnceOnly) {
  HideLimit();
  records_.resize(25);
  for (const int32_t sequence : {100, 125, 150}) {
    const ByteBuffer few = Whole(sequence);
    ASSERT_LT(few.size(), 4096u);
    EXPECT_EQ(Send(few), 0);
  }
  EXPECT_EQ(upstream_.asked.size(), 2u) << "for the limit, and with the first";
  EXPECT_EQ(taken_.size(), 3u);
}

TEST_F(SplitBatchTest, OfUnknownLimitGetsNoAnswerWhereNoneIsDue) {
  HideLimit();
  const RequestResult result = Produce({Topic("orders", {{0, ProducedBatch(records_)}})}, 9, 0);
  ASSERT_TRUE(result.rewritten());
  EXPECT_FALSE(result.verdict.expectResponse);
  EXPECT_TRUE(WrittenRequest<ProduceRequest>(result.written, 9).topicData.empty());
  EXPECT_EQ(TakenRecords(), 300u);
}

TEST_F(SplitBatchTest, IsRefusedWhenNoMoreCanBeRemembered) {
  for (int64_t producer = 1000; producer < 11'000; ++producer) {
    SplitMemory::BatchId id = IdOf(batch_);
    id.producer.producerId = producer;
    ASSERT_TRUE(shared_->splits.Remember(id, 1000, SplitMemory::Clock::now()));
  }
  EXPECT_EQ(Send(batch_), 19);
  EXPECT_TRUE(taken_.empty());
  EXPECT_NE(metrics_.Text().find("kveil_producers_not_remembered_total 1\n"), std::string::npos);
  HideLimit(42'500);
  guard_ = NewConnection();
  EXPECT_EQ(Send(batch_), 19) << "it was cut after it had gone whole";
  EXPECT_TRUE(taken_.empty());
  connection_.workload.share = "/another";
  EXPECT_EQ(Send(batch_), 0);
}

TEST_F(SplitBatchTest, WhatIsRememberedOfEachCountsUntilItIsAnswered) {
  const RequestResult asked = Produce({Topic("orders", {{0, batch_}})});
  ASSERT_TRUE(asked.rewritten());
  EXPECT_GT(asked.verdict.state->bytes(), sizeof(SplitBatches) + sizeof(SplitBatches::Batch));
}

}  // namespace
}  // namespace kveil::guard
