// A connection whose way to the broker is TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "../io/tls_server.h"
#include "base/log.h"
#include "connection_fixture.h"
#include "io/tls_context.h"

namespace kveil::proxy {
namespace {

class TlsToBrokerTest : public ConnectionTest {
 protected:
  TlsToBrokerTest() {
    interceptor_ = Intercept({kWanted});
    interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) {
      return RequestVerdict::Forward().WantResponse();
    };
  }

  io::TlsPeer Broker() const {
    return {.names = {"broker.example"}, .acceptsAddress = false, .sentName = "", .address = brokerAddress_};
  }

  // Connects to a broker with this certificate, which serves the connection with `serve`.
  void OpenTls(const io::TestCertificate& certificate, std::function<void(io::TlsServer::Connection&)> serve) {
    OpenTls(io::TlsServerOptions{.certificate = certificate, .clientCa = ""}, std::move(serve));
  }
  void OpenTls(const io::TlsServerOptions& options, std::function<void(io::TlsServer::Connection&)> serve) {
    const auto context = io::TlsContext::Load({.ca = authority_.path()});
    ASSERT_TRUE(context.ok()) << context.status();
    auto session = (*context)->NewSession(Broker());
    ASSERT_TRUE(session.ok()) << session.status();
    tls_ = *std::move(session);
    server_ = std::make_unique<io::TlsServer>(options);
    Start();
    if (!sentAtOnce_.empty()) {
      (void)!::send(application_.fd(), sentAtOnce_.data(), sentAtOnce_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    UniqueFd accepted(::accept4(brokerListener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    served_ = server_->Accept(std::move(accepted), std::move(serve));
  }

  // Reads exactly that much.
  static std::string ReadAll(io::TlsServer::Connection& broker, size_t size) {
    std::string bytes;
    while (bytes.size() < size) {
      const std::string more = broker.Read(size - bytes.size());
      if (more.empty()) break;
      bytes += more;
    }
    return bytes;
  }

  std::string sentAtOnce_;  // by the application, before the broker has greeted anybody
  io::TestAuthority authority_;
  FakeInterceptor* interceptor_;
  std::unique_ptr<io::TlsServer> server_;
  std::unique_ptr<io::TlsServer::Connection> served_;
};

TEST_F(TlsToBrokerTest, FramesOfAllSizesPassBothWays) {
  // Around the sizes of a TLS record, of what is received at once and of a receive buffer; and larger than all of them.
  const std::vector<size_t> sizes = {1,       16'300,        16'384,         16'385,         100'000,
                                     131'072, 163'840 + 100, (1 << 20) - 20, (1 << 20) + 20, 5'000'000};
  std::vector<std::string> requests, responses;
  for (const ApiKey apiKey : {kWanted, kOther}) {
    for (const size_t size : sizes) {
      const auto id = static_cast<int32_t>(requests.size());
      requests.push_back(RequestFrameOf(apiKey, id, Pattern(size, 1)));
      responses.push_back(ResponseFrameOf(id, Pattern(size, 2)));
    }
  }
  std::vector<bool> arrived(requests.size());
  OpenTls(authority_.Issue("broker", "DNS:broker.example"), [&](io::TlsServer::Connection& broker) {
    for (size_t i = 0; i < requests.size(); ++i) {
      arrived[i] = ReadAll(broker, requests[i].size()) == requests[i];
      // As a broker does it: the first bytes by themselves, then records of all sizes.
      broker.Write(responses[i].substr(0, 4));
      for (size_t at = 4; at < responses[i].size(); at += 50'000) broker.Write(responses[i].substr(at, 50'000));
    }
    (void)broker.Read(1);
  });
  for (size_t i = 0; i < requests.size(); ++i) {
    application_.Send(requests[i]);
    ASSERT_TRUE(application_.Receive(responses[i].size()) == responses[i]) << i;
  }
  application_.EndSending();
  EXPECT_EQ(application_.HowItEnded(), "in order");
  application_.Close();
  EXPECT_EQ(Result(), "served");
  served_->Join();
  EXPECT_EQ(arrived, std::vector<bool>(requests.size(), true));
}

TEST_F(TlsToBrokerTest, AnswersThatCameWithTheEndOfALongOneDoNotWaitForMore) {
  std::string answers;
  for (int32_t id = 0; id < 4; ++id) {
    answers += ResponseFrameOf(id, Pattern(id % 2 == 0 ? (1 << 20) + 7'000 : 9'000, 2));
  }
  OpenTls(authority_.Issue("broker", "DNS:broker.example"), [&](io::TlsServer::Connection& broker) {
    (void)ReadAll(broker, 4 * RequestFrameOf(kWanted, 0, "x").size());
    broker.Write(answers);
    (void)broker.Read(1);
  });
  for (int32_t id = 0; id < 4; ++id) application_.Send(RequestFrameOf(kWanted, id, "x"));
  EXPECT_TRUE(application_.Receive(answers.size()) == answers);
  application_.Close();
}

// With 1.2 the end of TLS is the end of both directions, and Kafka's broker holds that for 1.3 as well.
class TlsHalfCloseTest : public TlsToBrokerTest, public testing::WithParamInterface<int> {};

TEST_P(TlsHalfCloseTest, WaitsForTheAnswersThatAreOwed) {
  const std::string request = RequestFrameOf(kOther, 1, "x"), wanted = RequestFrameOf(kWanted, 2, "x");
  const std::string responses = ResponseFrameOf(1, Pattern(100'000)) + ResponseFrameOf(2, Pattern(9'000));
  bool endedEarly = true, ended = false;
  const auto serve = [&](io::TlsServer::Connection& broker) {
    (void)ReadAll(broker, request.size() + wanted.size());
    broker.Write(responses.substr(0, 50'000));
    pollfd wantsToRead{broker.fd(), POLLIN, 0};
    endedEarly = ::poll(&wantsToRead, 1, 300) != 0;
    broker.Write(responses.substr(50'000));
    ended = broker.Read(1).empty() && (SSL_get_shutdown(broker.ssl()) & SSL_RECEIVED_SHUTDOWN) != 0;
  };
  OpenTls({.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = "", .mostVersion = GetParam()},
          serve);
  application_.Send(request + wanted);
  application_.EndSending();
  EXPECT_TRUE(application_.Receive(responses.size()) == responses);
  EXPECT_EQ(application_.HowItEnded(), "in order");
  application_.Close();
  served_->Join();
  EXPECT_FALSE(endedEarly) << "an answer was owed";
  EXPECT_TRUE(ended) << "TLS was not told that the stream ends";
}

TEST_P(TlsHalfCloseTest, IsTheBrokersEndAtOnceWhenNothingIsOwed) {
  bool ended = false;
  const auto serve = [&](io::TlsServer::Connection& broker) {
    ended = broker.Read(1).empty() && (SSL_get_shutdown(broker.ssl()) & SSL_RECEIVED_SHUTDOWN) != 0;
  };
  OpenTls({.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = "", .mostVersion = GetParam()},
          serve);
  application_.EndSending();
  EXPECT_EQ(application_.HowItEnded(), "in order");
  application_.Close();
  served_->Join();
  EXPECT_TRUE(ended);
  EXPECT_EQ(Result(), "served");
}

INSTANTIATE_TEST_SUITE_P(Versions, TlsHalfCloseTest, testing::Values(TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& info) { return info.param == TLS1_2_VERSION ? "tls12" : "tls13"; });

// With TLS 1.3 it says so after the handshake, when requests of this many bytes may be on their way.
class TlsRefusalTest : public TlsToBrokerTest, public testing::WithParamInterface<size_t> {};

TEST_P(TlsRefusalTest, OfTheAgentsCertificateIsATlsFailureThatTheLogExplains) {
  if (GetParam() > 0) sentAtOnce_ = RequestFrameOf(kOther, 1, Pattern(GetParam()));
  testing::internal::CaptureStderr();
  OpenTls({.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = authority_.path()},
          [](io::TlsServer::Connection&) { ADD_FAILURE() << "the broker accepted nobody"; });
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "tls_failed");
  log::Flush();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("certificate required"));
  served_->Join();
}

INSTANTIATE_TEST_SUITE_P(Requests, TlsRefusalTest, testing::Values(0, 100, 8 << 20),
                         [](const auto& info) { return StrCat("of", info.param, "bytes"); });

TEST_F(TlsToBrokerTest, AnAgentThatStopsDuringTheHandshakeIsNoTlsFailure) {
  const auto context = io::TlsContext::Load({.ca = authority_.path()});
  tls_ = *(*context)->NewSession(Broker());
  Open();
  EXPECT_NE(broker_.Receive(5), "") << "the greeting";
  testing::internal::CaptureStderr();
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kServed, "the agent stops"); });
  EXPECT_EQ(Result(), "served");
  log::Flush();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("the agent stops"));
}

TEST_F(TlsToBrokerTest, ABrokerThatIsNotAcceptedGetsNothingAndTheApplicationIsReset) {
  std::string got;
  OpenTls(authority_.Issue("other", "DNS:other.example"),
          [&](io::TlsServer::Connection& broker) { got = broker.Read(100); });
  application_.Send(RequestFrameOf(kOther, 1, "in the clear"));
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "tls_failed");
  served_->Join();
  EXPECT_EQ(got, "");
}

TEST_F(TlsToBrokerTest, ABrokerThatSpeaksNoTlsGetsNoRequest) {
  const auto context = io::TlsContext::Load({.ca = authority_.path()});
  tls_ = *(*context)->NewSession(Broker());
  limits_.connectTimeout = std::chrono::milliseconds(200);
  Open();
  const std::string request = RequestFrameOf(kOther, 1, "in the clear");
  application_.Send(request);
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "tls_failed");
  EXPECT_EQ(broker_.ReceiveRest().find("in the clear"), std::string::npos);
}

}  // namespace
}  // namespace kveil::proxy
