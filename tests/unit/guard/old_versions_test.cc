// Produce 0 to 2 and Fetch 0 to 3, which Kafka 4.0 dropped: messages of magic 0 and 1, which have no headers and so
// cannot be sealed. Brokers until 3.9 still speak them, and translate what they have on disk for those who ask so.
#include <gtest/gtest.h>

#include "guard/apis/fetch_guard.h"
#include "guard/apis/produce_guard.h"
#include "interceptor_fixture.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/produce.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;
using kafka::ProduceRequest;
using kafka::ProduceResponse;

// A message as Kafka 0.10 wrote it: offset 0, size 15, CRC, magic 1, no codec, time 0, no key, and no value.
const ByteBuffer& LegacyMessage() {
  static const ByteBuffer message = [] {
    ByteBuffer bytes(12 + 22, 0);
    bytes[11] = 22;                                              // size after itself
    bytes[16] = 1;                                               // magic
    for (size_t i = 26; i < bytes.size(); ++i) bytes[i] = 0xff;  // null key, null value
    return bytes;
  }();
  return message;
}

class OldVersionsTest : public InterceptorTest {
 protected:
  OldVersionsTest() {
    UseTopics(R"({"name": "clicks", "seal": {"scope": "topic"}, "read": [{"any": true}]})");
    fetch_ = std::make_unique<FetchGuard>(Context());
    produce_ = std::make_unique<ProduceGuard>(Context());
  }

  ResponseResult Fetched(std::string_view topicName, int16_t version) {
    FetchRequest request;
    request.maxBytes = 50 << 20;
    FetchRequest::Topic& asked = request.topics.emplace_back();
    asked.topic = topicName;
    asked.partitions.emplace_back();
    asked_ = Request(*fetch_, version, request);
    EXPECT_TRUE(asked_.forwarded()) << version;
    FetchResponse response;
    FetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topic = topicName;
    topic.partitions.emplace_back().records = LegacyMessage();
    return Response(*fetch_, version, response, asked_.verdict.state.get());
  }
  RequestResult Produced(std::string_view topicName, int16_t version) {
    ProduceRequest request;
    request.acks = 1;
    ProduceRequest::Topic& topic = request.topicData.emplace_back();
    topic.name = topicName;
    topic.partitionData.emplace_back().records = LegacyMessage();
    return Request(*produce_, version, request);
  }

  std::unique_ptr<FetchGuard> fetch_;
  std::unique_ptr<ProduceGuard> produce_;
  RequestResult asked_;
};

TEST_F(OldVersionsTest, AFetchWithoutHeadersGetsNothingOfAProtectedTopic) {
  for (int16_t version = 0; version <= 3; ++version) {
    const ResponseResult result = Fetched("clicks", version);
    ASSERT_TRUE(result.rewritten()) << version;
    const auto answer = WrittenResponse<FetchResponse>(result.written, version);
    const FetchResponse::Partition& partition = answer.responses.at(0).partitions.at(0);
    EXPECT_EQ(partition.errorCode, ErrorCode::kTopicAuthorizationFailed) << version;
    EXPECT_EQ(partition.records, Bytes()) << version;
  }
}

TEST_F(OldVersionsTest, AFetchWithoutHeadersOfAnyOtherTopicPasses) {
  for (int16_t version = 0; version <= 3; ++version) {
    EXPECT_TRUE(Fetched("other", version).forwarded()) << version;
    EXPECT_FALSE(asked_.wantsResponse()) << version;
  }
}

TEST_F(OldVersionsTest, TheSameMessageInANewerFetchIsPlaintextFromBefore) {
  EXPECT_TRUE(Fetched("clicks", 4).forwarded());
}

TEST_F(OldVersionsTest, AMessageWithoutHeadersIsRefusedForAProtectedTopic) {
  for (int16_t version = 0; version <= 3; ++version) {
    const RequestResult result = Produced("clicks", version);
    const auto answer = AnswerToNothing<ProduceRequest, ProduceResponse>(*produce_, result, version);
    EXPECT_EQ(answer.responses.at(0).name, "clicks");
    EXPECT_EQ(answer.responses.at(0).partitionResponses.at(0).errorCode, ErrorCode::kInvalidRecord) << version;
  }
}

TEST_F(OldVersionsTest, AMessageWithoutHeadersForAnyOtherTopicPasses) {
  for (int16_t version = 0; version <= 2; ++version) EXPECT_TRUE(Produced("other", version).forwarded()) << version;
}

}  // namespace
}  // namespace kveil::guard
