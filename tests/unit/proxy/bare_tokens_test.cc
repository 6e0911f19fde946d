// What follows SaslHandshake version 0: tokens without a header in both directions, and then Kafka again.
#include <gtest/gtest.h>

#include <atomic>

#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

class BareTokensTest : public ConnectionTest {
 protected:
  BareTokensTest() {
    interceptor_ = Intercept({ApiKey::kSaslHandshake, ApiKey::kSaslAuthenticate});
    interceptor_->onRequest = [this](const RequestFrame& request, FrameOutput&) {
      if (request.header.apiKey == ApiKey::kSaslHandshake)
        return RequestVerdict::Forward().WantResponse(std::make_unique<FakeInterceptor::Number>(0)).ThenBareTokens(2);
      EXPECT_EQ(request.header.version, kBareToken);
      fromClient_.emplace_back(AsText(request.body));
      return RequestVerdict::Forward().WantResponse(std::make_unique<FakeInterceptor::Number>(0));
    };
    interceptor_->onResponse = [this](const ResponseFrame& response, RequestState*, FrameOutput&) {
      if (response.apiKey == ApiKey::kSaslHandshake) {
        return refuses_ ? ResponseVerdict::Close("refused") : ResponseVerdict::Forward();
      }
      EXPECT_EQ(response.version, kBareToken);
      fromBroker_.emplace_back(AsText(response.body));
      return ResponseVerdict::Forward();
    };
    Open();
  }

  // Sends frames that have to come out at the other end as they are.
  void Ask(const std::string& frame) {
    application_.Send(frame);
    EXPECT_EQ(broker_.Receive(frame.size()), frame);
  }
  void Answer(const std::string& frame) {
    broker_.Send(frame);
    EXPECT_EQ(application_.Receive(frame.size()), frame);
  }
  void Handshake() {
    Ask(RequestFrameOf(ApiKey::kSaslHandshake, 1, "mechanism", 0));
    Answer(ResponseFrameOf(1, "accepted"));
  }

  FakeInterceptor* interceptor_;
  std::atomic<bool> refuses_ = false;  // the handshake
  std::vector<std::string> fromClient_;
  std::vector<std::string> fromBroker_;
};

TEST_F(BareTokensTest, PassAndKafkaFollows) {
  Handshake();
  Ask(Framed("one"));
  Answer(Framed(""));  // shorter than any Kafka response
  Ask(Framed(""));
  Answer(Framed("a longer answer"));
  Ask(RequestFrameOf(ApiKey::kListOffsets, 2, "body"));
  Answer(ResponseFrameOf(2, "body"));
  Settle();
  EXPECT_EQ(fromClient_, (std::vector<std::string>{"one", ""}));
  EXPECT_EQ(fromBroker_, (std::vector<std::string>{"", "a longer answer"}));
}

// A token is never looked into: one that goes before the broker has accepted the handshake could be a request.
TEST_F(BareTokensTest, WaitForTheAnswerThatAcceptsTheHandshake) {
  const std::string handshake = RequestFrameOf(ApiKey::kSaslHandshake, 1, "mechanism", 0);
  const std::string request = RequestFrameOf(ApiKey::kListOffsets, 2, "body");
  application_.Send(StrCat(handshake, Framed("one"), Framed("two"), request));
  EXPECT_EQ(broker_.Receive(handshake.size()), handshake);
  EXPECT_FALSE(broker_.HasBytesWithin(50));
  Answer(ResponseFrameOf(1, "accepted"));
  EXPECT_EQ(broker_.ReceiveFrame(), Framed("one"));
  EXPECT_FALSE(broker_.HasBytesWithin(50));
  Answer(Framed(""));
  EXPECT_EQ(broker_.ReceiveFrame(), Framed("two"));
  EXPECT_EQ(broker_.ReceiveFrame(), request);
  Answer(Framed(""));
  Answer(ResponseFrameOf(2, "body"));
  Settle();
  EXPECT_EQ(fromClient_, (std::vector<std::string>{"one", "two"}));
}

TEST_F(BareTokensTest, GoNowhereWhenTheHandshakeIsRefused) {
  refuses_ = true;
  const std::string handshake = RequestFrameOf(ApiKey::kSaslHandshake, 1, "mechanism", 0);
  application_.Send(StrCat(handshake, Framed("a request in a token's place")));
  EXPECT_EQ(broker_.Receive(handshake.size()), handshake);
  broker_.Send(ResponseFrameOf(1, "not here"));
  EXPECT_EQ(broker_.ReceiveRest(), "");
}

TEST_F(BareTokensTest, MayComeByteByByte) {
  Handshake();
  for (const std::string& token : {std::string("first token"), std::string("x")}) {
    const std::string frame = Framed(token);
    for (const char byte : frame) application_.Send(std::string(1, byte));
    EXPECT_EQ(broker_.Receive(frame.size()), frame);
    for (const char byte : frame) broker_.Send(std::string(1, byte));
    EXPECT_EQ(application_.Receive(frame.size()), frame);
  }
  Settle();
  EXPECT_EQ(fromBroker_, (std::vector<std::string>{"first token", "x"}));
}

TEST_F(BareTokensTest, OfMoreThanABrokerTakesEndTheConnection) {
  Handshake();
  application_.Send(BigEndian((512 << 10) + 1, 4));
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
}

TEST_F(BareTokensTest, AreNotExpectedWithoutAHandshake) {
  application_.Send(Framed("x"));
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
}

}  // namespace
}  // namespace kveil::proxy
