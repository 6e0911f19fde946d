// Produce requests: what is forwarded of them, what is refused, and what the producer hears of both.
#include "guard/produce_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "interceptor_fixture.h"
#include "kafka/messages/describe_configs.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;

constexpr char kTopics[] = R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}},
                               "read": [{"any": true}]},
                              {"name": "orders", "seal": {"scope": "topic"}, "read": [{"any": true}]},
                              {"name": "readonly", "read": [{"any": true}]})";

class ProduceGuardTest : public InterceptorTest {
 protected:
  ProduceGuardTest() {
    UseTopics(kTopics);
    guard_ = NewConnection();
    good_ = ProducedBatch({ClickOf("anna"), ClickOf("bert")});
    bad_ = ProducedBatch({ClickOf("anna"), Record("k", "{}")});
  }

  std::unique_ptr<ProduceGuard> NewConnection() {
    return std::make_unique<ProduceGuard>(*shared_, *scratch_, *loop_, connection_);
  }

  static ProduceRequest::Topic Topic(std::string_view name, std::vector<std::pair<int32_t, Bytes>> partitions) {
    ProduceRequest::Topic topic;
    topic.name = name;
    for (const auto& [index, records] : partitions) {
      ProduceRequest::Partition& partition = topic.partitionData.emplace_back();
      partition.index = index;
      partition.records = records;
    }
    return topic;
  }
  static ProduceRequest::Topic TopicById(kafka::TopicId id, std::vector<std::pair<int32_t, Bytes>> partitions) {
    ProduceRequest::Topic topic = Topic("", std::move(partitions));
    topic.topicId = id;
    return topic;
  }
  RequestResult Produce(std::vector<ProduceRequest::Topic> topics, int16_t version = 9, int16_t acks = -1) {
    ProduceRequest request;
    request.acks = acks;
    request.timeoutMs = 30'000;
    request.topicData = std::move(topics);
    return Request(*guard_, version, request);
  }
  // A broker that takes everything that was forwarded.
  static ProduceResponse Accepted(const ProduceRequest& request) {
    ProduceResponse response;
    for (const ProduceRequest::Topic& topic : request.topicData) {
      ProduceResponse::Topic& answered = response.responses.emplace_back();
      answered.name = topic.name;
      answered.topicId = topic.topicId;
      for (const ProduceRequest::Partition& partition : topic.partitionData) {
        ProduceResponse::Partition& result = answered.partitionResponses.emplace_back();
        result.index = partition.index;
        result.baseOffset = 900;
      }
    }
    return response;
  }
  // "topic/partition code baseOffset", sorted.
  static std::vector<std::string> Lines(const ProduceResponse& response) {
    std::vector<std::string> lines;
    for (const ProduceResponse::Topic& topic : response.responses) {
      for (const ProduceResponse::Partition& partition : topic.partitionResponses) {
        lines.push_back(StrCat(topic.name, "/", partition.index, " ", static_cast<int>(partition.errorCode), " ",
                               partition.baseOffset));
      }
    }
    std::sort(lines.begin(), lines.end());
    return lines;
  }
  // The one code with which a request for one partition was answered.
  int CodeOf(const RequestResult& result, int16_t version = 9) {
    if (!result.answered()) return 0;
    const auto response = WrittenResponse<ProduceResponse>(result.written, version);
    EXPECT_EQ(response.responses.size(), 1u);
    EXPECT_EQ(response.responses[0].partitionResponses.size(), 1u);
    return static_cast<int>(response.responses[0].partitionResponses[0].errorCode);
  }
  ByteBuffer BatchOf(int32_t sequence, const TestRecord& record, int16_t epoch = 0) {
    TestBatch batch;
    batch.producerId = 7;
    batch.producerEpoch = epoch;
    batch.baseSequence = sequence;
    return ProducedBatch({record}, kafka::Codec::kNone, batch);
  }

  std::unique_ptr<ProduceGuard> guard_;
  ByteBuffer good_;
  ByteBuffer bad_;
};

class TopicLimit : public ProduceGuardTest {
 protected:
  // A batch of records that hardly compress, of about 40 KB, which sealing makes about a fifth longer.
  TopicLimit() {
    std::mt19937 random(1);
    for (int i = 0; i < 300; ++i) {
      std::string value(130, '\0');
      for (char& byte : value) byte = static_cast<char>('!' + random() % 64);
      records_.push_back(Record("k", value));
    }
    batch_ = ProducedBatch(records_);
  }

  void BrokerSays(std::string_view limit, ErrorCode error = ErrorCode::kNone) {
    kafka::DescribeConfigsResponse response;
    kafka::DescribeConfigsResponse::Result& result = response.results.emplace_back();
    result.errorCode = error;
    result.resourceType = kafka::ConfigResourceType::kTopic;
    result.resourceName = "orders";
    kafka::DescribeConfigsResponse::Config& config = result.configs.emplace_back();
    config.name = "max.message.bytes";
    config.value = limit;
    upstream_.answer = BodyOf(response, 1);
  }
  kafka::Codec CodecAfter(const RequestResult& result) {
    const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
    return Read(*forwarded.topicData.at(0).partitionData.at(0).records).header.codec();
  }

  std::vector<TestRecord> records_;
  ByteBuffer batch_;
};

TEST_F(TopicLimit, isAskedForOnceAndDecidesWhatIsCompressed) {
  BrokerSays("48000");
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kZstd);
  ASSERT_EQ(upstream_.asked.size(), 1u);
  EXPECT_EQ(upstream_.asked[0].apiKey, kafka::ApiKey::kDescribeConfigs);
  const auto question = kafka::Decode<kafka::DescribeConfigsRequest>(upstream_.asked[0].body, 1);
  ASSERT_TRUE(question.ok()) << question.status();
  EXPECT_EQ(question->resources.at(0).resourceName, "orders");
  EXPECT_EQ(question->resources.at(0).configurationKeys->at(0), "max.message.bytes");
  BrokerSays("10000000");
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kZstd);
  EXPECT_EQ(upstream_.asked.size(), 1u) << "asked for what is known";
  shared_->topicLimits.Learn("main", "orders", 10'000'000, TopicLimits::Clock::now());
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kNone);
}

TEST_F(TopicLimit, ofACompressedBatchMakesItTheStrongerCodec) {
  BrokerSays("48000");
  const ByteBuffer snappy = ProducedBatch(records_, kafka::Codec::kSnappy);
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, snappy}})})), kafka::Codec::kZstd);
  shared_->topicLimits.Learn("main", "orders", 10'000'000, TopicLimits::Clock::now());
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, snappy}})})), kafka::Codec::kSnappy);
}

TEST_F(TopicLimit, thatTheBrokerDoesNotTellIsKafkasDefault) {
  BrokerSays("45000", ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kNone);
  for (const char* limit : {"", "-1", "0", "many"}) {
    shared_->topicLimits.Learn("main", "orders", 1, TopicLimits::Clock::now() - TopicLimits::kLifetime);
    BrokerSays(limit);
    EXPECT_EQ(CodecAfter(Produce({Topic("orders", {{0, batch_}})})), kafka::Codec::kNone) << limit;
  }
  EXPECT_EQ(upstream_.asked.size(), 5u);
}

// The broker would refuse it too, but take a smaller one behind it, and then no part of this one any more.
TEST_F(TopicLimit, keepsTheOrderOfAProducerWhoseBatchHasToBeSplit) {
  BrokerSays("30000");
  TestBatch fields;
  fields.producerId = 7;
  fields.producerEpoch = 0;
  fields.baseSequence = 0;
  const ByteBuffer whole = ProducedBatch(records_, kafka::Codec::kNone, fields);
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, whole}})})), 10);
  const ByteBuffer next = BatchOf(300, Record("k", "small"));
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, next}})})), 19) << "it got in before";
  std::vector<TestRecord> half(records_.begin(), records_.begin() + 150);
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, ProducedBatch(half, kafka::Codec::kNone, fields)}})})), 0);
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, next}})})), 0);
}

TEST_F(TopicLimit, isAskedForAgainBeforeABatchIsRefused) {
  shared_->topicLimits.Learn("main", "orders", 30'000, TopicLimits::Clock::now() - std::chrono::seconds(30));
  BrokerSays("4000000");
  EXPECT_EQ(CodeOf(Produce({Topic("orders", {{0, batch_}})})), 0);
  EXPECT_EQ(upstream_.asked.size(), 1u);
}

TEST_F(TopicLimit, isNotAskedForWithoutNeed) {
  Produce({Topic("orders", {{0, good_}}), Topic("free", {{0, batch_}}), Topic("readonly", {{0, batch_}})});
  EXPECT_TRUE(upstream_.asked.empty());
}

TEST_F(ProduceGuardTest, sealsWhatIsProtectedAndForwardsTheRestAsItCame) {
  for (const int16_t version : {3, 5, 8, 9, 12}) {
    const RequestResult result =
        Produce({Topic("clicks", {{0, good_}, {4, good_}}), Topic("free", {{1, bad_}}), Topic("readonly", {{0, bad_}})},
                version);
    ASSERT_TRUE(result.rewritten()) << version;
    EXPECT_TRUE(result.verdict.expectResponse);
    const auto forwarded = WrittenRequest<ProduceRequest>(result.written, version);
    EXPECT_EQ(forwarded.acks, -1);
    EXPECT_EQ(forwarded.timeoutMs, 30'000);
    ASSERT_EQ(forwarded.topicData.size(), 3u);
    EXPECT_EQ(forwarded.topicData[1].partitionData[0].records, Bytes(bad_));
    EXPECT_EQ(forwarded.topicData[2].partitionData[0].records, Bytes(bad_));
    ASSERT_EQ(forwarded.topicData[0].partitionData.size(), 2u);
    EXPECT_EQ(forwarded.topicData[0].partitionData[1].index, 4);
    for (const auto& partition : forwarded.topicData[0].partitionData) {
      EXPECT_EQ(AsText(*partition.records).find("anna\","), std::string::npos);
      EXPECT_EQ(Opened(*partition.records).records.at(1).value, Click("bert"));
    }
  }
}

TEST_F(ProduceGuardTest, leavesARequestWithoutProtectedTopicsAlone) {
  const RequestResult result = Produce({Topic("free", {{0, bad_}})});
  EXPECT_TRUE(result.forwarded());
  EXPECT_FALSE(result.verdict.wantResponse);
  EXPECT_TRUE(result.verdict.expectResponse);
}

TEST_F(ProduceGuardTest, mergesPartialRefusalsIntoTheBrokersAnswer) {
  for (const int16_t version : {3, 8, 9, 12}) {
    RequestResult result = Produce({Topic("clicks", {{0, bad_}, {1, good_}, {2, bad_}}),
                                    Topic("orders", {{0, Bytes(bad_).first(20)}}), Topic("free", {{5, bad_}})},
                                   version);
    ASSERT_TRUE(result.rewritten());
    ASSERT_TRUE(result.verdict.wantResponse);
    const auto forwarded = WrittenRequest<ProduceRequest>(result.written, version);
    EXPECT_EQ(Lines(Accepted(forwarded)), (std::vector<std::string>{"clicks/1 0 900", "free/5 0 900"}));
    const ResponseResult answer = Response(*guard_, version, Accepted(forwarded), result.verdict.state.get());
    ASSERT_TRUE(answer.rewritten());
    const auto merged = WrittenResponse<ProduceResponse>(answer.written, version);
    EXPECT_EQ(Lines(merged), (std::vector<std::string>{"clicks/0 87 -1", "clicks/1 0 900", "clicks/2 87 -1",
                                                       "free/5 0 900", "orders/0 87 -1"}));
    EXPECT_EQ(merged.responses.size(), 3u) << "a topic is named once";
  }
}

TEST_F(ProduceGuardTest, answersByItselfWhenNothingIsLeftToForward) {
  for (const int16_t version : {3, 9, 12}) {
    const RequestResult result = Produce({Topic("clicks", {{0, bad_}, {3, bad_}})}, version);
    ASSERT_TRUE(result.answered());
    const auto response = WrittenResponse<ProduceResponse>(result.written, version);
    EXPECT_EQ(Lines(response), (std::vector<std::string>{"clicks/0 87 -1", "clicks/3 87 -1"}));
    const ProduceResponse::Partition& partition = response.responses[0].partitionResponses[0];
    EXPECT_EQ(partition.logAppendTimeMs, -1);
    EXPECT_EQ(partition.logStartOffset, -1);
    if (version < 8) continue;
    ASSERT_EQ(partition.recordErrors.size(), 1u);
    EXPECT_EQ(partition.recordErrors[0].batchIndex, 1);
    EXPECT_TRUE(partition.recordErrors[0].batchIndexErrorMessage.has_value());
    EXPECT_TRUE(partition.errorMessage->starts_with("kveil: "));
  }
}

TEST_F(ProduceGuardTest, refusesAForgedEnvelope) {
  TestRecord forged = ClickOf("anna");
  forged.headers = {{"kveil", "x"}};
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, ProducedBatch({forged})}})})), 87);
}

// A broker closes the connection too: there is no answer to put an error in.
TEST_F(ProduceGuardTest, closesWhenARecordWithoutAcknowledgementIsRefused) {
  const RequestResult result = Produce({Topic("clicks", {{0, good_}, {1, bad_}})}, 9, 0);
  ASSERT_TRUE(result.closed());
  EXPECT_NE(result.verdict.reason.find("acks=0"), std::string::npos);
}

TEST_F(ProduceGuardTest, expectsNoAnswerWithoutAcknowledgement) {
  const RequestResult sealed = Produce({Topic("clicks", {{0, good_}})}, 12, 0);
  ASSERT_TRUE(sealed.rewritten());
  EXPECT_FALSE(sealed.verdict.expectResponse);
  EXPECT_FALSE(sealed.verdict.wantResponse);
  const RequestResult free = Produce({Topic("free", {{0, good_}})}, 12, 0);
  ASSERT_TRUE(free.forwarded());
  EXPECT_FALSE(free.verdict.expectResponse);
}

TEST_F(ProduceGuardTest, asksForTheNameOfATopicIdThatNobodyNamedYet) {
  upstream_.answer = NamesAnswer({{Id(1), "clicks"}, {Id(2), "free"}});
  const RequestResult result = Produce({TopicById(Id(1), {{0, good_}}), TopicById(Id(2), {{0, bad_}})}, 13, 0);
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 13);
  ASSERT_EQ(forwarded.topicData.size(), 2u);
  EXPECT_EQ(Opened(*forwarded.topicData[0].partitionData[0].records).records.size(), 2u);
  EXPECT_EQ(*forwarded.topicData[1].partitionData[0].records, Bytes(bad_));
  Produce({TopicById(Id(1), {{0, good_}})}, 13);
  EXPECT_EQ(upstream_.asked.size(), 1u) << "asked for what is known";
}

TEST_F(ProduceGuardTest, refusesATopicIdThatTheBrokerCannotName) {
  RequestResult result = Produce({TopicById(Id(1), {{0, good_}}), TopicById(Id(2), {{0, good_}})}, 13);
  ASSERT_TRUE(result.answered());
  auto response = WrittenResponse<ProduceResponse>(result.written, 13);
  ASSERT_EQ(response.responses.size(), 2u);
  EXPECT_EQ(response.responses[0].topicId, Id(1));
  EXPECT_EQ(response.responses[1].topicId, Id(2));
  EXPECT_EQ(response.responses[0].partitionResponses[0].errorCode, ErrorCode::kUnknownTopicId);

  shared_->topicNames.Learn(Id(1), "clicks");
  result = Produce({TopicById(Id(1), {{0, good_}}), TopicById(Id(2), {{0, good_}})}, 13);
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 13);
  ASSERT_EQ(forwarded.topicData.size(), 1u);
  EXPECT_EQ(forwarded.topicData[0].topicId, Id(1));
  EXPECT_EQ(Opened(*forwarded.topicData[0].partitionData[0].records).records.size(), 2u);
  const ResponseResult answer = Response(*guard_, 13, Accepted(forwarded), result.verdict.state.get());
  response = WrittenResponse<ProduceResponse>(answer.written, 13);
  ASSERT_EQ(response.responses.size(), 2u);
  EXPECT_EQ(response.responses[0].partitionResponses[0].errorCode, ErrorCode::kNone);
  EXPECT_EQ(response.responses[1].topicId, Id(2));
  EXPECT_EQ(response.responses[1].partitionResponses[0].errorCode, ErrorCode::kUnknownTopicId);
}

TEST_F(ProduceGuardTest, saysTryAgainWhenTheKeysCannotBeReached) {
  LockedRegistry lock(registryFile());
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, good_}})})), 19);
}

TEST_F(ProduceGuardTest, keepsAnIdempotentProducerInOrderAfterARefusal) {
  const TestRecord click = ClickOf("anna");
  ByteBuffer first;
  {
    LockedRegistry lock(registryFile());
    first = BatchOf(100, click);
    EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, first}})})), 19);
  }
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(101, click)}})})), 19) << "overtook the refused one";
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{1, BatchOf(50, click)}})})), 0) << "another partition";
  guard_ = NewConnection();
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(102, click)}})})), 19) << "forgotten by a new connection";
  EXPECT_TRUE(Produce({Topic("clicks", {{0, first}})}).rewritten());
  EXPECT_TRUE(Produce({Topic("clicks", {{0, BatchOf(101, click)}})}).rewritten());
}

TEST_F(ProduceGuardTest, keepsAnIdempotentProducerInOrderWhileATopicIdIsUnknown) {
  for (const char* name : {"clicks", "free"}) {
    const kafka::TopicId id = Id(name[0] == 'c' ? 1 : 2);
    const ByteBuffer first = BatchOf(0, ClickOf("anna")), second = BatchOf(1, ClickOf("anna"));
    EXPECT_EQ(CodeOf(Produce({TopicById(id, {{0, first}})}, 13), 13), 100);
    shared_->topicNames.Learn(id, name);
    EXPECT_EQ(CodeOf(Produce({TopicById(id, {{0, second}})}, 13), 13), 100) << name << ": overtook the refused one";
    EXPECT_FALSE(Produce({TopicById(id, {{0, first}})}, 13).answered()) << name;
    EXPECT_FALSE(Produce({TopicById(id, {{0, second}})}, 13).answered()) << name;
  }
}

TEST_F(ProduceGuardTest, waitsForKeysOnceForAWholeRequest) {
  LockedRegistry lock(registryFile());
  const ByteBuffer anna = BatchOf(0, ClickOf("anna")), bert = BatchOf(0, ClickOf("bert")),
                   carl = BatchOf(0, ClickOf("carl"));
  const auto started = std::chrono::steady_clock::now();
  const RequestResult one = Produce({Topic("clicks", {{0, anna}})});
  const auto alone = std::chrono::steady_clock::now() - started;
  const RequestResult three = Produce({Topic("clicks", {{1, anna}, {2, bert}, {3, carl}})});
  const auto together = std::chrono::steady_clock::now() - started - alone;
  EXPECT_TRUE(one.answered() && three.answered());
  EXPECT_LT(together, alone * 2) << "three times, if each partition waited for itself";
}

TEST_F(ProduceGuardTest, refusesWhatARequestHoldsBeyondFourLargestBatches) {
  shared_->limits.batchSize = 20'000;
  std::vector<std::pair<int32_t, Bytes>> partitions;
  std::string noise(15'000, '\0');  // that compression makes little of
  std::mt19937 random(1);
  for (char& each : noise) each = static_cast<char>('A' + random() % 26);
  const ByteBuffer batch =
      ProducedBatch({Record("k", StrCat(R"({"user":"anna","x":")", noise, "\"}"))}, kafka::Codec::kGzip);
  constexpr size_t kCount = 14;
  for (size_t index = 0; index < kCount; ++index) partitions.emplace_back(static_cast<int32_t>(index), batch);
  const RequestResult result = Produce({Topic("clicks", partitions)});
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
  ASSERT_EQ(forwarded.topicData.size(), 1u);
  size_t bytes = 0;
  for (const auto& partition : forwarded.topicData[0].partitionData) bytes += partition.records->size();
  EXPECT_LE(bytes, 80'000u);
  EXPECT_GT(bytes, 80'000u - 2 * 15'000u);
  ASSERT_LT(forwarded.topicData[0].partitionData.size(), kCount);
  const ResponseResult answer = Response(*guard_, 9, Accepted(forwarded), result.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  EXPECT_THAT(Lines(WrittenResponse<ProduceResponse>(answer.written, 9)), testing::Contains("clicks/13 87 -1"));
}

TEST_F(ProduceGuardTest, letsANewEpochBeginAnew) {
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(100, Record("k", "{}"))}})})), 87);
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(101, ClickOf("anna"))}})})), 87);
  EXPECT_TRUE(Produce({Topic("clicks", {{0, BatchOf(0, ClickOf("anna"), 1)}})}).rewritten());
}

TEST_F(ProduceGuardTest, remembersNoRefusalOfAProducerWithoutAnId) {
  TestBatch batch;
  batch.producerId = -1;
  batch.producerEpoch = -1;
  batch.baseSequence = -1;
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, ProducedBatch({Record("k", "{}")}, kafka::Codec::kNone, batch)}})})),
            87);
  EXPECT_TRUE(shared_->refusals.empty());
  EXPECT_TRUE(
      Produce({Topic("clicks", {{0, ProducedBatch({ClickOf("anna")}, kafka::Codec::kNone, batch)}})}).rewritten());
}

TEST_F(ProduceGuardTest, learnsABrokerBeforeTheProducerHearsOfIt) {
  RequestResult result = Produce({Topic("free", {{0, good_}})}, 10);
  ASSERT_TRUE(result.verdict.wantResponse);
  ProduceResponse response = Accepted(ProduceRequest());
  kafka::NodeEndpoint& leader = response.nodeEndpoints.emplace_back();
  leader.host = "127.0.0.9";
  leader.port = 9099;
  EXPECT_TRUE(Response(*guard_, 10, response, result.verdict.state.get()).forwarded());
  EXPECT_EQ(learned_, (std::vector<std::string>{"127.0.0.9:9099 of target 3"}));
}

TEST_F(ProduceGuardTest, closesRatherThanAdvertisesABrokerThatItCouldNotLearn) {
  learnStatus_ = absl::ResourceExhaustedError("the table of targets is full");
  RequestResult result = Produce({Topic("free", {{0, good_}})}, 10);
  ProduceResponse response = Accepted(ProduceRequest());
  response.nodeEndpoints.emplace_back().host = "127.0.0.9";
  response.nodeEndpoints.back().port = 9099;
  EXPECT_TRUE(Response(*guard_, 10, response, result.verdict.state.get()).closed());
}

TEST_F(ProduceGuardTest, forwardsAPartitionWithoutRecords) {
  ProduceRequest::Topic topic = Topic("clicks", {{0, Bytes()}, {1, good_}});
  topic.partitionData[0].records.reset();
  const RequestResult result = Produce({topic});
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
  ASSERT_EQ(forwarded.topicData[0].partitionData.size(), 2u);
  EXPECT_FALSE(forwarded.topicData[0].partitionData[0].records.has_value());
}

TEST_F(ProduceGuardTest, closesOnWhatItCannotRead) {
  for (const int16_t version : {0, 1, 2, 14, 99}) {
    EXPECT_TRUE(RequestBytes(*guard_, kafka::ApiKey::kProduce, version, AsBytes("0123456789")).closed()) << version;
  }
  EXPECT_TRUE(RequestBytes(*guard_, kafka::ApiKey::kProduce, 9, AsBytes("no produce request")).closed());
  RequestResult result = Produce({Topic("free", {{0, good_}})}, 10);
  EXPECT_TRUE(
      ResponseBytes(*guard_, kafka::ApiKey::kProduce, 10, AsBytes("no produce response"), result.verdict.state.get())
          .closed());
}

TEST_F(ProduceGuardTest, countsWhatItSealedAndRefused) {
  Produce({Topic("clicks", {{0, good_}, {1, bad_}})});
  EXPECT_EQ(metrics_.totals().sealed, 2u);
  EXPECT_EQ(metrics_.totals().refused, 2u);
}

}  // namespace
}  // namespace kveil::guard
