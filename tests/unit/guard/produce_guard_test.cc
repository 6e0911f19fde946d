// Produce requests: what is forwarded of them, what is refused, and what the producer hears of both.
#include "guard/apis/produce_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <ctime>
#include <random>

#include "produce_fixture.h"
#include "proxy/owed_memory.h"

namespace kveil::guard {
namespace {

TEST_F(ProduceGuardTest, SealsWhatIsProtectedAndForwardsTheRestAsItCame) {
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

TEST_F(ProduceGuardTest, LeavesARequestWithoutProtectedTopicsAlone) {
  const RequestResult result = Produce({Topic("free", {{0, bad_}})});
  EXPECT_TRUE(result.forwarded());
  EXPECT_FALSE(result.verdict.wantResponse);
  EXPECT_TRUE(result.verdict.expectResponse);
}

TEST_F(ProduceGuardTest, MergesPartialRefusalsIntoTheBrokersAnswer) {
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

// The broker has its say about such a request, too: it counts towards quotas, and the client may be told to slow down.
TEST_F(ProduceGuardTest, ForwardsTheRequestAlsoWhenNothingIsLeftOfIt) {
  for (const int16_t version : {3, 9, 12}) {
    const RequestResult result = Produce({Topic("clicks", {{0, bad_}, {3, bad_}})}, version);
    ASSERT_TRUE(AllRefused(result, version));
    ProduceResponse nothing;
    nothing.throttleTimeMs = 77;
    const auto response = WrittenResponse<ProduceResponse>(
        Response(*guard_, version, nothing, result.verdict.state.get()).written, version);
    EXPECT_EQ(response.throttleTimeMs, 77);
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

TEST_F(ProduceGuardTest, RefusesAForgedEnvelope) {
  TestRecord forged = ClickOf("anna");
  forged.headers = {{"kveil", "x"}};
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, ProducedBatch({forged})}})})), 87);
}

// Who gets sealed bytes could give them other headers, and read them here by a rule on headers.
TEST_F(ProduceGuardTest, RefusesAnEnvelopeAlsoWhereNothingIsSealed) {
  TestRecord forged = ClickOf("anna");
  forged.headers = {{"region", "eu"}, {"kveil", "forged"}};
  for (const kafka::Codec codec : {kafka::Codec::kNone, kafka::Codec::kLz4}) {
    const ByteBuffer batch = ProducedBatch({ClickOf("bert"), forged}, codec);
    const RequestResult result = Produce({Topic("readonly", {{0, batch}}), Topic("free", {{0, batch}})});
    ASSERT_TRUE(result.rewritten());
    const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
    EXPECT_EQ(Lines(Accepted(forwarded)), (std::vector<std::string>{"free/0 0 900"}));
    const RequestResult alone = Produce({Topic("readonly", {{0, batch}})});
    ASSERT_TRUE(AllRefused(alone));
    const ProduceResponse response = Refusals(alone);
    const ProduceResponse::Partition& partition = response.responses.at(0).partitionResponses.at(0);
    EXPECT_EQ(static_cast<int>(partition.errorCode), 87);
    ASSERT_EQ(partition.recordErrors.size(), 1u);
    EXPECT_EQ(partition.recordErrors[0].batchIndex, 1);
  }
}

TEST_F(ProduceGuardTest, RefusesWhatWouldStopReadersAlsoWhereNothingIsSealed) {
  std::string large(shared_->limits.batchSize, 'z');
  const ByteBuffer bomb = ProducedBatch({Record("k", std::move(large))}, kafka::Codec::kZstd);
  EXPECT_EQ(CodeOf(Produce({Topic("readonly", {{0, bomb}})})), 87);
  ByteBuffer two = good_;
  Append(two, good_);
  EXPECT_EQ(CodeOf(Produce({Topic("readonly", {{0, Padded(two)}})})), 87);
  ByteBuffer damaged = good_;
  damaged.back() ^= 1;
  EXPECT_EQ(CodeOf(Produce({Topic("readonly", {{0, Padded(damaged)}})})), 87);
  // Old messages have no headers, but a batch behind them has.
  ByteBuffer old = good_;
  old[16] = 1;
  EXPECT_TRUE(Produce({Topic("readonly", {{0, Padded(old)}})}).forwarded());
  Append(old, good_);
  EXPECT_EQ(CodeOf(Produce({Topic("readonly", {{0, Padded(old)}})})), 87);
}

// A broker closes the connection too: there is no answer to put an error in.
TEST_F(ProduceGuardTest, ClosesWhenARecordWithoutAcknowledgementIsRefused) {
  const RequestResult result = Produce({Topic("clicks", {{0, good_}, {1, bad_}})}, 9, 0);
  ASSERT_TRUE(result.closed());
  EXPECT_NE(result.verdict.reason.find("acks=0"), std::string::npos);
}

TEST_F(ProduceGuardTest, ExpectsNoAnswerWithoutAcknowledgement) {
  const RequestResult sealed = Produce({Topic("clicks", {{0, good_}})}, 12, 0);
  ASSERT_TRUE(sealed.rewritten());
  EXPECT_FALSE(sealed.verdict.expectResponse);
  EXPECT_FALSE(sealed.verdict.wantResponse);
  const RequestResult free = Produce({Topic("free", {{0, good_}})}, 12, 0);
  ASSERT_TRUE(free.forwarded());
  EXPECT_FALSE(free.verdict.expectResponse);
}

TEST_F(ProduceGuardTest, AsksForTheNameOfATopicIdThatNobodyNamedYet) {
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

TEST_F(ProduceGuardTest, RefusesATopicIdThatTheBrokerCannotName) {
  RequestResult result = Produce({TopicById(Id(1), {{0, good_}}), TopicById(Id(2), {{0, good_}})}, 13);
  ASSERT_TRUE(AllRefused(result, 13));
  auto response = Refusals(result, 13);
  ASSERT_EQ(response.responses.size(), 2u);
  EXPECT_EQ(response.responses[0].topicId, Id(1));
  EXPECT_EQ(response.responses[1].topicId, Id(2));
  EXPECT_EQ(response.responses[0].partitionResponses[0].errorCode, ErrorCode::kUnknownTopicId);

  shared_->topicNames.Learn(Id(1), "clicks", connection_);
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

TEST_F(ProduceGuardTest, SaysTryAgainWhenTheKeysCannotBeReached) {
  LockedRegistry lock(registryFile());
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, good_}})})), 19);
}

TEST_F(ProduceGuardTest, KeepsAnIdempotentProducerInOrderAfterARefusal) {
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

TEST_F(ProduceGuardTest, KeepsAnIdempotentProducerInOrderWhileATopicIdIsUnknown) {
  for (const char* name : {"clicks", "free"}) {
    const kafka::TopicId id = Id(name[0] == 'c' ? 1 : 2);
    const ByteBuffer first = BatchOf(0, ClickOf("anna")), second = BatchOf(1, ClickOf("anna"));
    EXPECT_EQ(CodeOf(Produce({TopicById(id, {{0, first}})}, 13), 13), 100);
    shared_->topicNames.Learn(id, name, connection_);
    EXPECT_EQ(CodeOf(Produce({TopicById(id, {{0, second}})}, 13), 13), 100) << name << ": overtook the refused one";
    EXPECT_FALSE(AllRefused(Produce({TopicById(id, {{0, first}})}, 13), 13)) << name;
    EXPECT_FALSE(AllRefused(Produce({TopicById(id, {{0, second}})}, 13), 13)) << name;
  }
}

TEST_F(ProduceGuardTest, WaitsForKeysOnceForAWholeRequest) {
  LockedRegistry lock(registryFile());
  const ByteBuffer anna = BatchOf(0, ClickOf("anna")), bert = BatchOf(0, ClickOf("bert")),
                   carl = BatchOf(0, ClickOf("carl"));
  const auto started = std::chrono::steady_clock::now();
  const RequestResult one = Produce({Topic("clicks", {{0, anna}})});
  const auto alone = std::chrono::steady_clock::now() - started;
  const RequestResult three = Produce({Topic("clicks", {{1, anna}, {2, bert}, {3, carl}})});
  const auto together = std::chrono::steady_clock::now() - started - alone;
  EXPECT_TRUE(AllRefused(one) && AllRefused(three));
  EXPECT_LT(together, alone * 2) << "three times, if each partition waited for itself";
}

TEST_F(ProduceGuardTest, RefusesWhatARequestHoldsBeyondFourLargestBatches) {
  shared_->limits.batchSize = 20'000;
  shared_->topicLimits.Learn(connection_, "clicks", TopicLimits::kDefault, TopicLimits::Clock::now());
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
  EXPECT_EQ(forwarded.topicData[0].partitionData.size(), 80'000u / 15'000) << "what they decompress to counts";
  const ResponseResult answer = Response(*guard_, 9, Accepted(forwarded), result.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  EXPECT_THAT(Lines(WrittenResponse<ProduceResponse>(answer.written, 9)), testing::Contains("clicks/13 87 -1"));
}

// Producer ids are small numbers that anybody can name, and this is refused before the broker has a say.
TEST_F(ProduceGuardTest, RefusesNothingForWhatAnotherWorkloadSentInAProducersName) {
  const std::string share = std::exchange(connection_.workload.share, "/attacker");
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(0, Record("k", "{}"))}})})), 87);
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(100, ClickOf("anna"))}})})), 87);
  connection_.workload.share = share;
  guard_ = NewConnection();
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(100, ClickOf("anna"))}})})), 0);
}

// A producer sends again what was not answered, from the first on: the order is kept without memory, too.
TEST_F(ProduceGuardTest, ClosesRatherThanForgetARefusalOfAnIdempotentProducer) {
  const ByteBuffer refused = BatchOf(100, Record("k", "{}"));
  std::vector<std::pair<int32_t, Bytes>> partitions;
  for (int32_t index = 0; index < 10'000; ++index) partitions.emplace_back(index, refused);
  EXPECT_TRUE(AllRefused(Produce({Topic("clicks", partitions)})));
  EXPECT_TRUE(shared_->ProducersHealth().ok());
  EXPECT_TRUE(Produce({Topic("clicks", {{10'001, refused}})}).closed());
  EXPECT_FALSE(shared_->ProducersHealth().ok());
  connection_.workload.share = "/another";
  guard_ = NewConnection();
  EXPECT_TRUE(AllRefused(Produce({Topic("clicks", {{10'001, refused}})}))) << "another workload";
  connection_.workload.share = "/system.slice/reader.service";
  EXPECT_NE(metrics_.Text().find("kveil_producers_not_remembered_total 1\n"), std::string::npos);
  guard_ = NewConnection();
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(101, ClickOf("anna"))}})})), 87) << "forgotten";
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, refused}})})), 87) << "it has its place already";
}

// Quadratic work takes 64 times as long for 8 times as many.
TEST_F(ProduceGuardTest, RefusesManyTopicsInTimeThatGrowsWithTheirNumber) {
  TestBatch fields;
  fields.producerId = -1;
  fields.producerEpoch = -1;
  fields.baseSequence = -1;
  const ByteBuffer batch = ProducedBatch({ClickOf("anna")}, kafka::Codec::kNone, fields);
  const auto secondsFor = [&](uint32_t count) {
    std::vector<ProduceRequest::Topic> topics;
    for (uint32_t i = 0; i < count; ++i) {
      kafka::TopicId id = Id(1);
      std::memcpy(id.bytes.data() + 4, &i, sizeof(i));
      topics.push_back(TopicById(id, {{0, batch}}));
    }
    const std::clock_t started = std::clock();  // of the processor: others may be busy
    EXPECT_TRUE(Produce(std::move(topics), 13).rewritten());
    return static_cast<double>(std::clock() - started) / CLOCKS_PER_SEC;
  };
  const double few = secondsFor(1'500) + secondsFor(1'500);
  EXPECT_LT(secondsFor(12'000), 12 * few);
}

// Seven bytes a partition could have the agent remember 150 for each, until a broker answers that never does.
TEST_F(ProduceGuardTest, RemembersNoMoreRefusalsThanAConnectionMayBeOwed) {
  const std::string name(249, 'c');
  UseTopics(StrCat(R"({"name": ")", name, R"(", "seal": {"scope": "topic"}, "read": []})"));
  const ByteBuffer junk(1);
  const auto produced = [&](int32_t count) {
    std::vector<std::pair<int32_t, Bytes>> partitions;
    for (int32_t i = 0; i < count; ++i) partitions.emplace_back(i, junk);
    return Produce({Topic(name, std::move(partitions))});
  };
  const RequestResult many = produced(10'000);
  EXPECT_TRUE(AllRefused(many));
  EXPECT_LT(many.verdict.state->bytes(), proxy::OwedMemory::kMost);
  EXPECT_TRUE(produced(100'000).closed());
}

// Whoever answers as a broker would decide how much memory it takes to look at the answer.
TEST_F(ProduceGuardTest, ClosesOnAnAnswerToMoreThanWasAsked) {
  ProduceResponse longName, manyPartitions;
  const std::string name(250, 'a');
  longName.responses.emplace_back().name = name;
  longName.responses[0].partitionResponses.emplace_back();
  manyPartitions.responses.emplace_back().name = "clicks";
  manyPartitions.responses[0].partitionResponses.resize(2);
  for (const ProduceResponse& answer : {longName, manyPartitions}) {
    const RequestResult result = Produce({Topic("clicks", {{0, good_}, {1, bad_}})});
    EXPECT_TRUE(Response(*guard_, 9, answer, result.verdict.state.get()).closed());
  }
}

TEST_F(ProduceGuardTest, LetsANewEpochBeginAnew) {
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(100, Record("k", "{}"))}})})), 87);
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, BatchOf(101, ClickOf("anna"))}})})), 87);
  EXPECT_TRUE(Produce({Topic("clicks", {{0, BatchOf(0, ClickOf("anna"), 1)}})}).rewritten());
}

TEST_F(ProduceGuardTest, RemembersNoRefusalOfAProducerWithoutAnId) {
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

TEST_F(ProduceGuardTest, LearnsABrokerBeforeTheProducerHearsOfIt) {
  RequestResult result = Produce({Topic("free", {{0, good_}})}, 10);
  ASSERT_TRUE(result.verdict.wantResponse);
  ProduceResponse response = Accepted(ProduceRequest());
  kafka::NodeEndpoint& leader = response.nodeEndpoints.emplace_back();
  leader.host = "127.0.0.9";
  leader.port = 9099;
  EXPECT_TRUE(Response(*guard_, 10, response, result.verdict.state.get()).forwarded());
  EXPECT_EQ(learned_, (std::vector<std::string>{"127.0.0.9:9099 of target 3"}));
}

TEST_F(ProduceGuardTest, LeavesABrokerOutThatItCouldNotLearn) {
  learnStatus_ = absl::ResourceExhaustedError("the table of targets is full");
  RequestResult result = Produce({Topic("free", {{0, good_}})}, 10);
  ProduceResponse response = Accepted(ProduceRequest());
  response.nodeEndpoints.emplace_back().host = "127.0.0.9";
  response.nodeEndpoints.back().port = 9099;
  const ResponseResult told = Response(*guard_, 10, response, result.verdict.state.get());
  EXPECT_TRUE(WrittenResponse<ProduceResponse>(told.written, 10).nodeEndpoints.empty());
}

TEST_F(ProduceGuardTest, ForwardsAPartitionWithoutRecords) {
  ProduceRequest::Topic topic = Topic("clicks", {{0, Bytes()}, {1, good_}});
  topic.partitionData[0].records.reset();
  const RequestResult result = Produce({topic});
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
  ASSERT_EQ(forwarded.topicData[0].partitionData.size(), 2u);
  EXPECT_FALSE(forwarded.topicData[0].partitionData[0].records.has_value());
}

TEST_F(ProduceGuardTest, ClosesOnWhatItCannotRead) {
  for (const int16_t version : {0, 1, 2, 14, 99}) {
    EXPECT_TRUE(RequestBytes(*guard_, kafka::ApiKey::kProduce, version, AsBytes("0123456789")).closed()) << version;
  }
  EXPECT_TRUE(RequestBytes(*guard_, kafka::ApiKey::kProduce, 9, AsBytes("no produce request")).closed());
  RequestResult result = Produce({Topic("free", {{0, good_}})}, 10);
  EXPECT_TRUE(
      ResponseBytes(*guard_, kafka::ApiKey::kProduce, 10, AsBytes("no produce response"), result.verdict.state.get())
          .closed());
}

TEST_F(ProduceGuardTest, CountsWhatItSealedAndRefused) {
  Produce({Topic("clicks", {{0, good_}, {1, bad_}})});
  EXPECT_EQ(metrics_.totals().sealed, 2u);
  EXPECT_EQ(metrics_.totals().refused, 2u);
}

// The connection is not read while too much is owed to it.
TEST_F(ProduceGuardTest, WhatIsRememberedOfRefusalsCounts) {
  const auto bytesOf = [&](int32_t partitions, std::string_view topic) {
    std::vector<std::pair<int32_t, Bytes>> refused;
    for (int32_t i = 0; i < partitions; ++i) refused.emplace_back(i, bad_);
    return Produce({Topic(topic, std::move(refused))}).verdict.state->bytes();
  };
  const size_t one = bytesOf(1, "clicks");
  EXPECT_LT(one, 1024u);
  EXPECT_GT(bytesOf(101, "clicks"), one + 100 * 200);
}

}  // namespace
}  // namespace kveil::guard
