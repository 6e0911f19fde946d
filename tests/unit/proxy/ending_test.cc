// How a connection ends: by its peers, by what they send, by the agent; and what each side sees of it.
#include <gtest/gtest.h>

#include <thread>

#include "base/log.h"
#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

class ConnectionEndTest : public ConnectionTest {
 protected:
  // The reason that the log gives for the end of the connection.
  std::string LogOf(std::function<void()> work) {
    testing::internal::CaptureStderr();
    work();
    EXPECT_TRUE(HasEnded());
    log::Flush();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(ConnectionEndTest, ByTheApplicationLosesNoRequestAndNoAnswer) {
  Open();
  std::string requests;
  std::string responses;
  for (int32_t id = 0; id < 100; ++id) {
    requests += Other(id, Pattern(20'000));
    responses += ResponseFrameOf(id, Pattern(30'000));
  }
  std::thread sending([&] {
    application_.Send(requests);
    application_.EndSending();
  });
  EXPECT_TRUE(broker_.ReceiveRest() == requests);
  sending.join();
  EXPECT_EQ(broker_.HowItEnded(), "in order");
  std::thread answering([&] {
    broker_.Send(responses);
    broker_.Close();
  });
  EXPECT_TRUE(application_.ReceiveRest() == responses);
  EXPECT_EQ(application_.HowItEnded(), "in order");
  answering.join();
  EXPECT_EQ(Result(), "served");
}

TEST_F(ConnectionEndTest, ByTheBrokerLosesNoAnswerAndNoRequest) {
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  const std::string response = ResponseFrameOf(1, Pattern(3 << 20));
  std::thread answering([&] {
    broker_.Send(response);
    broker_.EndSending();
  });
  EXPECT_TRUE(application_.ReceiveRest() == response);
  answering.join();
  EXPECT_EQ(application_.HowItEnded(), "in order");
  application_.Send(Other(2));
  application_.Close();
  EXPECT_EQ(broker_.ReceiveRest(), Other(2));
  EXPECT_EQ(Result(), "served");
}

TEST_F(ConnectionEndTest, ByTheApplicationForwardsNoPartOfAWantedRequest) {
  Intercept({kWanted});
  Open();
  application_.Send(Other(1) + RequestFrameOf(kWanted, 2, "half of it").substr(0, 20));
  application_.EndSending();
  EXPECT_EQ(broker_.ReceiveRest(), Other(1));
  broker_.Close();
  EXPECT_TRUE(HasEnded());
}

TEST_F(ConnectionEndTest, ByAResetOfTheBrokerIsAResetForTheApplication) {
  Open();
  ExpectRelayed(1);
  application_.Send(Other(2));
  broker_.ReceiveFrame();
  broker_.Send(ResponseFrameOf(2, Pattern(1000)).substr(0, 500));
  EXPECT_EQ(application_.Receive(500).size(), 500u);
  broker_.Reset();
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_TRUE(HasEnded());
}

TEST_F(ConnectionEndTest, ByAResetOfTheApplicationIsAResetForTheBroker) {
  Open();
  ExpectRelayed(1);
  application_.Send(Other(2, Pattern(1000)).substr(0, 500));
  EXPECT_EQ(broker_.Receive(500).size(), 500u);
  application_.Reset();
  EXPECT_EQ(broker_.HowItEnded(), "by a reset");
  EXPECT_TRUE(HasEnded());
}

TEST_F(ConnectionEndTest, ByTheBrokerWithAnswersOwedIsSaidInTheLog) {
  Open();
  application_.Send(Other(1) + Other(2));
  broker_.ReceiveFrame();
  broker_.ReceiveFrame();
  const std::string log = LogOf([this] {
    broker_.Close();
    EXPECT_EQ(application_.HowItEnded(), "in order");
    application_.Close();
  });
  EXPECT_NE(log.find("the broker closed with 2 requests unanswered"), std::string::npos) << log;
}

struct Stranger {
  const char* name;
  std::string bytes;
  const char* said;
  const char* result = "not_kafka";
};

class ForeignTest : public ConnectionEndTest, public testing::WithParamInterface<Stranger> {};

TEST_P(ForeignTest, BytesEndTheConnectionWithAResetAndTheReason) {
  Open();
  const std::string log = LogOf([this] {
    application_.Send(GetParam().bytes);
    EXPECT_EQ(application_.HowItEnded(), "by a reset");
    EXPECT_EQ(broker_.ReceiveRest(), "") << "passed on to the broker";
  });
  EXPECT_NE(log.find(GetParam().said), std::string::npos) << log;
  EXPECT_EQ(Result(), GetParam().result);
}

INSTANTIATE_TEST_SUITE_P(
    , ForeignTest,
    testing::Values(
        Stranger{"Tls", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), "clientTls refuses",
                 "client_tls"},
        Stranger{"Http", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"},
        Stranger{"Ssh", "SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"},
        Stranger{"ProxyProtocol1", "PROXY TCP4 10.0.0.1 10.0.0.2 40000 9092\r\n", "PROXY protocol, version 1"},
        Stranger{"ProxyProtocol2", std::string("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 16), "PROXY protocol, version 2"},
        Stranger{"NegativeSize", BigEndian(-1, 4) + "abcdefghij", "a request of -1 bytes"},
        Stranger{"TwoGigabytes", BigEndian(0x7fffffff, 4) + "abcdefghij", "a request of 2147483647 bytes"},
        Stranger{"JustTooLong", BigEndian((100 << 20) + 1, 4) + "abcdefghij", "allowed: 8 to 104857600"},
        Stranger{"Nothing", std::string(4, '\0'), "a request of 0 bytes"},
        Stranger{"TooShort", Framed("seven..").substr(0, 11), "a request of 7 bytes"}),
    [](const auto& stranger) { return stranger.param.name; });

TEST_F(ConnectionEndTest, ByTheProxyProtocolAlsoWhereItsLengthIsAllowed) {
  limits_.requestFrame = 256 << 20;
  Open();
  application_.Send(std::string("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 16));
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(broker_.ReceiveRest(), "") << "passed on to the broker";
  EXPECT_EQ(Result(), "not_kafka");
}

TEST_F(ConnectionEndTest, ByAResponseWithAnotherCorrelationId) {
  Open();
  application_.Send(Other(1) + Other(2));
  const std::string log = LogOf([this] {
    broker_.Send(ResponseFrameOf(2, "the second one"));
    EXPECT_EQ(application_.ReceiveRest(), "") << "an answer to another request was passed on";
  });
  EXPECT_NE(log.find("a response with correlation id 2 where that to ListOffsets 1 is due"), std::string::npos) << log;
}

TEST_F(ConnectionEndTest, ByAResponseThatNobodyAskedFor) {
  Open();
  const std::string log = LogOf([this] {
    broker_.Send(ResponseFrameOf(1, "good morning"));
    EXPECT_EQ(application_.ReceiveRest(), "");
  });
  EXPECT_NE(log.find("a response that nobody asked for"), std::string::npos) << log;
}

class ImpossibleSizeTest : public ConnectionEndTest, public testing::WithParamInterface<int32_t> {};

TEST_P(ImpossibleSizeTest, OfAResponseEndsTheConnection) {
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  broker_.Send(BigEndian(GetParam(), 4) + BigEndian(1, 4));
  EXPECT_EQ(application_.ReceiveRest(), "");
  EXPECT_TRUE(HasEnded());
}

INSTANTIATE_TEST_SUITE_P(, ImpossibleSizeTest, testing::Values(-1, 0, 3));

TEST_F(ConnectionEndTest, WhenTheBrokerRefuses) {
  brokerListener_.Reset();
  Start();
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "broker_unreachable");
}

TEST_F(ConnectionEndTest, WhenTheBrokerDoesNotAnswerTheConnectInTime) {
  limits_.connectTimeout = std::chrono::milliseconds(150);
  // A backlog of none takes one connection and lets the others wait.
  brokerListener_ = io::Listen(0, &brokerAddress_);
  UniqueFd full(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(full.get(), brokerAddress_.get(), brokerAddress_.size()), 0);
  Start();
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "broker_unreachable");
}

TEST_F(ConnectionEndTest, ByAnAbortIsAReset) {
  Open();
  ExpectRelayed(1);
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kLimit, "enough"); });
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "limit");
}

TEST_F(ConnectionEndTest, ByAnAbortWhileTheBrokerIsNotConnected) {
  brokerListener_ = io::Listen(0, &brokerAddress_);
  UniqueFd full(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(full.get(), brokerAddress_.get(), brokerAddress_.size()), 0);
  Start();
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kStalled, "enough"); });
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_TRUE(HasEnded());
}

// One direction holds the last buffer and cannot send; the other waits for it.
TEST_F(ConnectionEndTest, ByAnAbortAlthoughOneDirectionWaitsForTheOthersBuffer) {
  receiveBuffers_ = 1;
  smallSocketBuffers_ = true;
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  const std::string request = Other(2, Pattern(16 << 20));
  EXPECT_LT(application_.SendUntilItStops(request), request.size());
  broker_.Send(ResponseFrameOf(1, "an answer that finds no buffer"));
  EXPECT_FALSE(application_.HasBytesWithin(100));
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kStalled, "enough"); });
  EXPECT_EQ(Result(), "stalled");
}

TEST_F(ConnectionEndTest, ByAnAbortAlthoughTheRequestsWaitForTheBufferOfTheResponses) {
  receiveBuffers_ = 1;
  smallSocketBuffers_ = true;
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  const std::string response = ResponseFrameOf(1, Pattern(16 << 20));
  EXPECT_LT(broker_.SendUntilItStops(response), response.size());
  application_.Send(Other(2, "a request that finds no buffer"));
  EXPECT_FALSE(broker_.HasBytesWithin(100));
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kStalled, "enough"); });
  EXPECT_EQ(Result(), "stalled");
}

// The same with the memory for long frames.
TEST_F(ConnectionEndTest, ByAnAbortAlthoughOneDirectionWaitsForTheOthersMemory) {
  FakeInterceptor* const interceptor = Intercept({kWanted});
  interceptor->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Forward().WantResponse(); };
  smallSocketBuffers_ = true;
  receiveBufferSize_ = 64 << 10;
  frameMemory_ = 9 << 20;
  Open();
  application_.Send(RequestFrameOf(kWanted, 1, "short"));
  broker_.ReceiveFrame();
  const std::string request = RequestFrameOf(kWanted, 2, Pattern(8 << 20));
  application_.Send(request);
  EXPECT_TRUE(broker_.HasBytesWithin(5000));
  EXPECT_LT(broker_.SendUntilItStops(ResponseFrameOf(1, Pattern(8 << 20))), size_t{8} << 20);
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kStalled, "enough"); });
  EXPECT_EQ(Result(), "stalled");
}

}  // namespace
}  // namespace kveil::proxy
