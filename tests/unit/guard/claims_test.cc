// What policies ask of a client's claims: none counts before it is known, and each request has its own.
#include <gtest/gtest.h>

#include "guard/apis/fetch_guard.h"
#include "guard/apis/produce_guard.h"
#include "guard/apis/share_guard.h"
#include "interceptor_fixture.h"
#include "kafka/messages/produce.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;

constexpr uint8_t kClaimed = 1;

class ClaimsTest : public InterceptorTest {
 protected:
  ClaimsTest() {
    UseClaimed(R"({"principal": "User:anna"})");
    shared_->topicNames.Learn(Id(kClaimed), "clicks", connection_);
    fetch_ = std::make_unique<FetchGuard>(Context(client_));
    produce_ = std::make_unique<ProduceGuard>(Context(client_));
    share_ = std::make_unique<ShareGuard>(Context(client_));
  }

  // Whoever claims this reads "clicks" and writes to it.
  void UseClaimed(const std::string& claimed) {
    const std::string entries = R"([{"workload": {"unit": "reader.service", "claimed": )" + claimed + "}}]";
    UseTopics(R"({"name": "clicks", "seal": {"scope": "topic"}, "read": )" + entries + R"(, "write": )" + entries +
              "}");
  }

  RequestResult Ask(std::string_view clientId = "a client") {
    kafka::FetchRequest request;
    request.maxBytes = 1 << 20;
    kafka::FetchRequest::Topic& topic = request.topics.emplace_back();
    topic.topic = "clicks";
    topic.partitions.emplace_back().partitionMaxBytes = 1 << 20;
    return RequestBytes(*fetch_, kafka::ApiKey::kFetch, kFetchVersion, BodyOf(request, kFetchVersion), clientId);
  }
  ErrorCode Answer(const RequestResult& asked) {
    const ByteBuffer sealed = Sealed(TaskToSeal(ProducedBatch({ClickOf("anna")}), "clicks"));
    kafka::FetchResponse response;
    kafka::FetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topic = "clicks";
    topic.partitions.emplace_back().records = Bytes(sealed);
    const ResponseResult answer = Response(*fetch_, kFetchVersion, response, asked.verdict.state.get());
    EXPECT_TRUE(answer.rewritten());
    const auto written = WrittenResponse<kafka::FetchResponse>(answer.written, kFetchVersion);
    return written.responses.at(0).partitions.at(0).errorCode;
  }
  bool MayRead(std::string_view clientId = "a client") { return Answer(Ask(clientId)) == ErrorCode::kNone; }

  bool MayWrite(std::string_view clientId = "a client") {
    const ByteBuffer batch = ProducedBatch({ClickOf("anna")});
    kafka::ProduceRequest request;
    request.acks = -1;
    kafka::ProduceRequest::Topic& topic = request.topicData.emplace_back();
    topic.name = "clicks";
    topic.partitionData.emplace_back().records = Bytes(batch);
    const RequestResult asked = RequestBytes(*produce_, kafka::ApiKey::kProduce, 9, BodyOf(request, 9), clientId);
    EXPECT_TRUE(asked.rewritten());
    return asked.written.size() > batch.size();  // what is refused is not in it
  }

  std::shared_ptr<ClientFacts> client_ = std::make_shared<ClientFacts>();
  std::unique_ptr<FetchGuard> fetch_;
  std::unique_ptr<ProduceGuard> produce_;
  std::unique_ptr<ShareGuard> share_;
};

TEST_F(ClaimsTest, NoPrincipalCountsBeforeTheBrokerHasAcceptedIt) {
  EXPECT_FALSE(MayRead());
  EXPECT_FALSE(MayWrite());
  client_->principal = "anna";
  EXPECT_TRUE(MayRead());
  EXPECT_TRUE(MayWrite());
  client_->principal = "bert";  // authenticated again
  EXPECT_FALSE(MayRead());
  EXPECT_FALSE(MayWrite());
}

TEST_F(ClaimsTest, AResponseGoesByThePrincipalOfItsRequest) {
  const RequestResult before = Ask();
  client_->principal = "anna";
  const RequestResult asAnna = Ask();
  client_->principal = "bert";
  EXPECT_EQ(Answer(before), ErrorCode::kTopicAuthorizationFailed);
  EXPECT_EQ(Answer(asAnna), ErrorCode::kNone);
}

TEST_F(ClaimsTest, TheWorkloadHasToFitToo) {
  client_->principal = "anna";
  connection_.workload.unit = "other.service";
  EXPECT_FALSE(MayRead());
  EXPECT_FALSE(MayWrite());
}

TEST_F(ClaimsTest, EachRequestHasItsClientId) {
  UseClaimed(R"({"clientId": "billing"})");
  EXPECT_FALSE(MayRead());
  EXPECT_TRUE(MayRead("billing"));
  EXPECT_TRUE(MayWrite("billing"));
  EXPECT_FALSE(MayRead("Billing"));
  EXPECT_FALSE(MayWrite("billing2"));
}

// The protocol allows 32 KiB, for each request that a client does not wait for.
TEST_F(ClaimsTest, ALongClientIdIsNotKept) {
  const std::string longest(identity::kLongestClientId, 'x');
  EXPECT_EQ(client_->ClaimsWith(longest, "")->clientId, longest);
  EXPECT_EQ(client_->ClaimsWith(longest + "x", "")->clientId, "");
  const auto kept = client_->ClaimsWith("billing", "");
  EXPECT_EQ(client_->ClaimsWith("billing", ""), kept) << "requests with the same claims share them";
}

TEST_F(ClaimsTest, TheCertificateIsTheConnections) {
  UseClaimed(R"({"certificate": "CN=orders,OU=prod"})");
  EXPECT_FALSE(MayRead());
  connection_.certificateSubject = "CN=orders,OU=prod";
  EXPECT_TRUE(MayRead());
  EXPECT_TRUE(MayWrite());
  connection_.certificateSubject = "CN=orders,OU=dev";
  EXPECT_FALSE(MayRead());
}

// The broker has been told of the partition by a request that might read it. It must hear that another may not.
TEST_F(ClaimsTest, AShareSessionFollowsTheClaimsOfItsRequests) {
  UseClaimed(R"({"clientId": "billing"})");
  const auto request = [this](int32_t epoch, std::string_view clientId, bool namesTopic) {
    kafka::ShareFetchRequest asked;
    asked.groupId = "group";
    asked.memberId = "member";
    asked.maxBytes = 1 << 20;
    asked.shareSessionEpoch = epoch;
    if (namesTopic) {
      asked.topics.emplace_back().topicId = Id(kClaimed);
      asked.topics.back().partitions.emplace_back().partitionIndex = 4;
    }
    return RequestBytes(*share_, kafka::ApiKey::kShareFetch, 2, BodyOf(asked, 2), clientId);
  };
  EXPECT_TRUE(request(0, "billing", true).forwarded());
  EXPECT_TRUE(request(1, "billing", false).forwarded());
  const RequestResult other = request(2, "other", false);
  ASSERT_TRUE(other.rewritten()) << "the broker forgets the partition";
  EXPECT_TRUE(request(3, "billing", false).rewritten()) << "and is told of it again";
}

}  // namespace
}  // namespace kveil::guard
