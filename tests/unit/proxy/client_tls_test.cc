// A connection on which the application may speak TLS.
#include <gtest/gtest.h>

#include "../io/tls_server.h"
#include "base/log.h"
#include "connection_fixture.h"
#include "io/tls_context.h"

namespace kveil::proxy {
namespace {

const std::string kHello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);

class PassedTlsTest : public ConnectionTest {
 protected:
  PassedTlsTest() { clientTls_ = ClientTls::kPass; }
  std::string CountOf(const std::string& name) const {
    const std::string text = metrics_.Text();
    const size_t at = text.find(StrCat("\n", name, " "));
    return at == std::string::npos ? "?"
                                   : text.substr(at + name.size() + 2, text.find('\n', at + 1) - at - name.size() - 2);
  }
};

TEST_F(PassedTlsTest, BytesPassBothWaysAsTheyAreAndAreCounted) {
  Start();
  const std::string sent = kHello + Pattern(3'000'000, 1), answered = Pattern(2'000'000, 2);
  std::thread sending([&] { application_.Send(sent); });
  broker_ = AcceptBroker();
  EXPECT_TRUE(broker_.Receive(sent.size()) == sent);
  sending.join();
  EXPECT_EQ(CountOf("kveil_connections_passed"), "1");
  std::thread answering([&] { broker_.Send(answered); });
  EXPECT_TRUE(application_.Receive(answered.size()) == answered);
  answering.join();
  application_.EndSending();
  EXPECT_EQ(broker_.ReceiveRest(), "");
  broker_.Close();
  EXPECT_EQ(application_.HowItEnded(), "in order");
  EXPECT_EQ(Result(), "served");
  EXPECT_EQ(CountOf("kveil_connections_passed"), "0");
  EXPECT_EQ(CountOf("kveil_connections_passed_total"), "1");
}

TEST_F(PassedTlsTest, TheAgentsOwnTlsIsNotPutAroundIt) {
  const io::TestAuthority authority;
  const auto context = io::TlsContext::Load({.ca = authority.path()});
  tls_ = *(*context)->NewSession({.names = {"broker.example"}, .acceptsAddress = false, .sentName = "", .address = {}});
  Start();
  application_.Send(kHello);
  broker_ = AcceptBroker();
  EXPECT_EQ(broker_.Receive(kHello.size()), kHello);
}

TEST_F(PassedTlsTest, AKafkaClientIsServedAsEver) {
  FakeInterceptor* const interceptor = Intercept({kWanted});
  interceptor->onRequest = [](const RequestFrame& request, FrameOutput& output) {
    return RewriteBody(request, AsBytes("sealed"), output);
  };
  Start();
  application_.Send(RequestFrameOf(kWanted, 1, "clear"));
  broker_ = AcceptBroker();
  EXPECT_EQ(broker_.ReceiveFrame(), RequestFrameOf(kWanted, 1, "sealed"));
  EXPECT_EQ(CountOf("kveil_connections_passed_total"), "0");
}

TEST_F(PassedTlsTest, WhatIsNeitherKafkaNorTlsIsRefused) {
  Start();
  application_.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  broker_ = AcceptBroker();
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(broker_.ReceiveRest(), "");
  EXPECT_EQ(Result(), "not_kafka");
}

// It may be silent for as long as any other connection: in the middle of nothing that the agent knows of.
TEST_F(PassedTlsTest, ASilentOneDoesNotStall) {
  limits_.stallTimeout = std::chrono::milliseconds(1);
  Start();
  application_.Send(kHello);
  broker_ = AcceptBroker();
  EXPECT_EQ(broker_.Receive(kHello.size()), kHello);
  Settle();
  const auto later = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  OnLoop([later](Connection& connection) {
    connection.Sweep(later);
    connection.Sweep(later + std::chrono::minutes(1));
  });
  broker_.Send("an answer");
  EXPECT_EQ(application_.Receive(9), "an answer");
  application_.Close();
  broker_.Close();
  EXPECT_EQ(Result(), "served");
}

TEST_F(PassedTlsTest, ASilentApplicationEndsWhenItIsDrained) {
  Start();
  OnLoop([](Connection& connection) { connection.Drain(); });
  broker_ = AcceptBroker();
  EXPECT_EQ(broker_.ReceiveRest(), "");
  broker_.Close();
  EXPECT_EQ(Result(), "served");
}

}  // namespace
}  // namespace kveil::proxy
