// ApiVersions: the client is offered nothing that the agent cannot read or guard, and everything else as the broker
// offers it.
#include "guard/apis/api_versions_guard.h"

#include <gtest/gtest.h>

#include "interceptor_fixture.h"
#include "kafka/messages/api_versions.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/produce.h"

namespace kveil::guard {
namespace {

using kafka::ApiKey;
using kafka::ApiVersionsRequest;
using kafka::ApiVersionsResponse;
using kafka::ErrorCode;

class ApiVersionsGuardTest : public InterceptorTest {
 protected:
  ApiVersionsGuardTest() {
    UseTopics(R"({"name": "clicks", "read": []})");
    guard_ = std::make_unique<ApiVersionsGuard>(Context(client_));
  }

  static void Offer(ApiVersionsResponse& response, ApiKey api, int16_t min, int16_t max) {
    ApiVersionsResponse::ApiVersion& offered = response.apiKeys.emplace_back();
    offered.apiKey = api;
    offered.minVersion = min;
    offered.maxVersion = max;
  }
  static std::string RangeOf(const ApiVersionsResponse& response, ApiKey api) {
    for (const ApiVersionsResponse::ApiVersion& offered : response.apiKeys) {
      if (offered.apiKey == api) return StrCat(offered.minVersion, "-", offered.maxVersion);
    }
    return "not offered";
  }

  std::shared_ptr<ClientFacts> client_ = std::make_shared<ClientFacts>();
  std::unique_ptr<ApiVersionsGuard> guard_;
};

TEST_F(ApiVersionsGuardTest, LowersWhatTheAgentCannotRead) {
  for (int16_t version = 0; version <= 5; ++version) {
    ApiVersionsResponse response;
    for (const ApiKey api :
         {ApiKey::kProduce, ApiKey::kFetch, ApiKey::kMetadata, ApiKey::kFindCoordinator, ApiKey::kDescribeCluster,
          ApiKey::kCreateTopics, ApiKey::kDescribeTopicPartitions, ApiKey::kApiVersions}) {
      Offer(response, api, 0, 99);
    }
    Offer(response, ApiKey::kOffsetCommit, 2, 99);
    Offer(response, ApiKey::kHeartbeat, 1, 3);
    const ResponseResult result = Response(*guard_, version, response);
    ASSERT_TRUE(result.rewritten());
    const auto capped = WrittenResponse<ApiVersionsResponse>(result.written, version);
    EXPECT_EQ(RangeOf(capped, ApiKey::kProduce), StrCat("0-", kafka::ProduceRequest::kVersions.max));
    EXPECT_EQ(RangeOf(capped, ApiKey::kFetch), StrCat("0-", kafka::FetchRequest::kVersions.max));
    EXPECT_EQ(RangeOf(capped, ApiKey::kMetadata), "0-13");
    EXPECT_EQ(RangeOf(capped, ApiKey::kFindCoordinator), "0-6");
    EXPECT_EQ(RangeOf(capped, ApiKey::kDescribeCluster), "0-2");
    EXPECT_EQ(RangeOf(capped, ApiKey::kCreateTopics), "0-7");
    EXPECT_EQ(RangeOf(capped, ApiKey::kDescribeTopicPartitions), "0-0");
    EXPECT_EQ(RangeOf(capped, ApiKey::kApiVersions), "0-5");
    EXPECT_EQ(RangeOf(capped, ApiKey::kOffsetCommit), "2-10") << "what a later version carries, nobody knows";
    EXPECT_EQ(RangeOf(capped, ApiKey::kHeartbeat), "1-3");
  }
}

// librdkafka switches compression off when Produce starts at version 3.
TEST_F(ApiVersionsGuardTest, RaisesNoMinimumAndNoMaximum) {
  ApiVersionsResponse response;
  Offer(response, ApiKey::kProduce, 0, 7);
  Offer(response, ApiKey::kFetch, 4, 11);
  const auto capped = WrittenResponse<ApiVersionsResponse>(Response(*guard_, 3, response).written, 3);
  EXPECT_EQ(RangeOf(capped, ApiKey::kProduce), "0-7");
  EXPECT_EQ(RangeOf(capped, ApiKey::kFetch), "4-11");
}

TEST_F(ApiVersionsGuardTest, OffersShareGroupsAsFarAsItReadsThem) {
  ApiVersionsResponse response;
  Offer(response, ApiKey::kShareFetch, 1, 9);
  Offer(response, ApiKey::kShareAcknowledge, 1, 9);
  const auto capped = WrittenResponse<ApiVersionsResponse>(Response(*guard_, 3, response).written, 3);
  EXPECT_EQ(RangeOf(capped, ApiKey::kShareFetch), "1-2");
  EXPECT_EQ(RangeOf(capped, ApiKey::kShareAcknowledge), "1-2") << "it names brokers";
}

// What they carry, nobody can say: the connection would end at the first request.
TEST_F(ApiVersionsGuardTest, OffersNoApiAndNoRangeThatItDoesNotKnow) {
  for (int16_t version = 0; version <= 5; ++version) {
    ApiVersionsResponse response;
    for (const int16_t key : {95, 127, 128, 200, 32767, -1}) Offer(response, static_cast<ApiKey>(key), 0, 32767);
    Offer(response, ApiKey::kFetch, 90, 99);
    Offer(response, ApiKey::kOffsetCommit, 90, 99);
    Offer(response, ApiKey::kProduce, 3, 13);
    const auto passed = WrittenResponse<ApiVersionsResponse>(Response(*guard_, version, response).written, version);
    ASSERT_EQ(passed.apiKeys.size(), 1u);
    EXPECT_EQ(RangeOf(passed, ApiKey::kProduce), "3-13");
  }
}

// The header of this response has no tag section in any version: a client reads it before it knows what the broker
// speaks.
TEST_F(ApiVersionsGuardTest, WritesTheShortHeaderAndKeepsUnknownTags) {
  // Version 3: no error, one API (Produce 0 to 99) with an unknown tag 9, not throttled, an unknown tag 12.
  const ByteBuffer body = {0, 0, 2, 0, 0, 0, 0, 0, 99, 1, 9, 1, 0xAA, 0, 0, 0, 0, 1, 12, 2, 0xBB, 0xCC};
  const ResponseResult result = ResponseBytes(*guard_, ApiKey::kApiVersions, 3, body, nullptr);
  ASSERT_TRUE(result.rewritten());
  ByteBuffer expected = {0, 0, 0, 26, 0, 0, 0x12, 0x67};  // length, correlation id, and at once the body
  expected.insert(expected.end(), body.begin(), body.end());
  expected[8 + 8] = static_cast<uint8_t>(kafka::ProduceRequest::kVersions.max);
  EXPECT_EQ(result.written, expected);
}

TEST_F(ApiVersionsGuardTest, KeepsTheBrokersFeatures) {
  ApiVersionsResponse response;
  response.throttleTimeMs = 12;
  response.finalizedFeaturesEpoch = 34;
  response.supportedFeatures.emplace_back().name = "metadata.version";
  response.supportedFeatures[0].maxVersion = 25;
  const auto capped = WrittenResponse<ApiVersionsResponse>(Response(*guard_, 4, response).written, 4);
  EXPECT_EQ(capped.throttleTimeMs, 12);
  EXPECT_EQ(capped.finalizedFeaturesEpoch, 34);
  ASSERT_EQ(capped.supportedFeatures.size(), 1u);
  EXPECT_EQ(capped.supportedFeatures[0].maxVersion, 25);
}

TEST_F(ApiVersionsGuardTest, ReadsABrokerThatAnswersInVersionZero) {
  ApiVersionsResponse response;
  response.errorCode = ErrorCode::kUnsupportedVersion;
  Offer(response, ApiKey::kApiVersions, 0, 3);
  const ResponseResult result = ResponseBytes(*guard_, ApiKey::kApiVersions, 4, BodyOf(response, 0), nullptr);
  ASSERT_TRUE(result.rewritten());
  const auto passed = WrittenResponse<ApiVersionsResponse>(result.written, 0);
  EXPECT_EQ(passed.errorCode, ErrorCode::kUnsupportedVersion);
  EXPECT_EQ(RangeOf(passed, ApiKey::kApiVersions), "0-3");
}

TEST_F(ApiVersionsGuardTest, WantsTheAnswerToEveryVersionThatItReads) {
  for (int16_t version = 0; version <= 5; ++version) {
    const RequestResult result = Request(*guard_, version, ApiVersionsRequest());
    EXPECT_TRUE(result.forwarded());
    EXPECT_TRUE(result.verdict.wantResponse);
  }
}

TEST_F(ApiVersionsGuardTest, RemembersAClientThatNeedsMasking) {
  kafka::ApiVersionsRequest request;
  request.clientSoftwareName = "apache-kafka-java";
  Request(*guard_, 3, request);
  EXPECT_FALSE(client_->needsMasking);
  request.clientSoftwareName = "rskafka";
  Request(*guard_, 3, request);
  EXPECT_TRUE(client_->needsMasking);
}

// KIP-511: the broker answers a version that it does not know with error 35 and its own range, in version 0.
TEST_F(ApiVersionsGuardTest, LetsTheBrokerAnswerAVersionThatItDoesNotKnow) {
  const RequestResult result = RequestBytes(*guard_, ApiKey::kApiVersions, 99, AsBytes("whatever this is"));
  ASSERT_TRUE(result.rewritten());
  EXPECT_TRUE(result.verdict.wantResponse);
  const Bytes frame = Bytes(result.written).subspan(4);
  EXPECT_EQ(kafka::LoadBigEndian<int16_t>(frame.data() + 2), 32767) << "a version that no broker takes";
  EXPECT_EQ(kafka::LoadBigEndian<int32_t>(frame.data() + 4), kCorrelationId);
  EXPECT_NE(AsText(frame).find("whatever this is"), std::string_view::npos);
  ApiVersionsResponse response;
  response.errorCode = ErrorCode::kUnsupportedVersion;
  Offer(response, ApiKey::kApiVersions, 0, 99);
  const auto passed = WrittenResponse<ApiVersionsResponse>(
      ResponseBytes(*guard_, ApiKey::kApiVersions, 99, BodyOf(response, 0), nullptr).written, 0);
  EXPECT_EQ(passed.errorCode, ErrorCode::kUnsupportedVersion);
  EXPECT_EQ(RangeOf(passed, ApiKey::kApiVersions), "0-5");
}

TEST_F(ApiVersionsGuardTest, ClosesOnAnAnswerThatItCannotRead) {
  EXPECT_TRUE(ResponseBytes(*guard_, ApiKey::kApiVersions, 3, AsBytes("no such response"), nullptr).closed());
}

}  // namespace
}  // namespace kveil::guard
