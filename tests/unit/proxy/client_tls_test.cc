// A connection on which the application may speak TLS.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <thread>

#include "../io/certificates.h"
#include "../io/tls_client.h"
#include "base/log.h"
#include "connection_fixture.h"
#include "io/tls_context.h"
#include "io/tls_server_context.h"

namespace kveil::proxy {
namespace {

const std::string kHello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);

class ClientTlsTest : public ConnectionTest {
 protected:
  std::string CountOf(const std::string& name) const {
    const std::string text = metrics_.Text();
    const size_t at = text.find(StrCat("\n", name, " "));
    return at == std::string::npos ? "?"
                                   : text.substr(at + name.size() + 2, text.find('\n', at + 1) - at - name.size() - 2);
  }
};

class PassedTlsTest : public ClientTlsTest {
 protected:
  PassedTlsTest() { clientTls_ = ClientTls::kPass; }
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

// The agent speaks TLS with the application in place of the broker.
class TerminatedTlsTest : public ClientTlsTest {
 protected:
  TerminatedTlsTest() {
    clientTls_ = ClientTls::kTerminate;
    const io::TestCertificate issued = authority_.Issue("broker", "DNS:broker.example");
    ::chmod(issued.key.c_str(), 0600);
    files_.identities = {{.certificate = issued.certificate, .key = issued.key}};
    applicationTls_ = [this](const ConnectionInfo&) -> absl::StatusOr<std::unique_ptr<io::TlsSession>> {
      const auto context = io::TlsServerContext::Load(files_);
      if (!context.ok()) return context.status();
      return (*context)->NewSession({});
    };
    interceptor_ = Intercept({kWanted});
    interceptor_->onRequest = [](const RequestFrame& request, FrameOutput& output) {
      return RewriteBody(request, AsBytes("sealed"), output);
    };
  }
  // The application's side, on the socket that the fixture has for it.
  std::unique_ptr<io::TlsClient> Client(io::TlsClientOptions options = {}) {
    options.ca = authority_.path();
    return std::make_unique<io::TlsClient>(UniqueFd(::dup(application_.fd())), options);
  }

  io::TestAuthority authority_;
  io::TlsServerFiles files_;
  FakeInterceptor* interceptor_;
};

class TerminatedVersionTest : public TerminatedTlsTest, public testing::WithParamInterface<int> {};

TEST_P(TerminatedVersionTest, FramesOfAllSizesPassBothWaysAndAreIntercepted) {
  Start();
  const auto client = Client({.mostVersion = GetParam()});
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  int32_t id = 0;
  for (const size_t size : {size_t{1}, size_t{16'384}, size_t{100'000}, (size_t{1} << 20) + 20, size_t{5'000'000}}) {
    const std::string request = RequestFrameOf(kOther, ++id, Pattern(size, 1));
    const std::string response = ResponseFrameOf(id, Pattern(size, 2));
    std::thread sending([&] { client->Write(request); });
    EXPECT_TRUE(broker_.Receive(request.size()) == request) << size;
    sending.join();
    std::thread answering([&] { broker_.Send(response); });
    EXPECT_TRUE(client->Read(response.size()) == response) << size;
    answering.join();
  }
  ASSERT_TRUE(client->Write(RequestFrameOf(kWanted, 99, Pattern(50'000))));
  EXPECT_EQ(broker_.ReceiveFrame(), RequestFrameOf(kWanted, 99, "sealed"));
  client->End();
  client->Close();
  application_.Close();
  EXPECT_EQ(broker_.ReceiveRest(), "");
  broker_.Close();
  EXPECT_EQ(Result(), "served");
  EXPECT_EQ(CountOf("kveil_client_tls_handshakes_total{resumed=\"no\"}"), "1");
}

INSTANTIATE_TEST_SUITE_P(, TerminatedVersionTest, testing::Values(TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& version) { return version.param == TLS1_2_VERSION ? "Tls12" : "Tls13"; });

TEST_F(TerminatedTlsTest, TheBrokersEndIsTheEndOfTls) {
  Start();
  const auto client = Client();
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  ASSERT_TRUE(client->Write(Other(1)));
  broker_.ReceiveFrame();
  broker_.Send(ResponseFrameOf(1, "x"));
  broker_.Close();
  EXPECT_EQ(client->Read(ResponseFrameOf(1, "x").size()), ResponseFrameOf(1, "x"));
  EXPECT_EQ(client->Read(1), "");
  EXPECT_EQ(client->ended, "in order");
}

TEST_F(TerminatedTlsTest, AKafkaClientWithoutTlsIsServedAsEver) {
  Start();
  application_.Send(RequestFrameOf(kWanted, 1, "clear"));
  broker_ = AcceptBroker();
  EXPECT_EQ(broker_.ReceiveFrame(), RequestFrameOf(kWanted, 1, "sealed"));
}

TEST_F(TerminatedTlsTest, WhereACertificateIsNeededNobodyIsServedWithoutTls) {
  clientTls_ = ClientTls::kRequire;
  Start();
  application_.Send(RequestFrameOf(kWanted, 1, "clear"));
  EXPECT_EQ(application_.ReceiveRest(), "");
  EXPECT_EQ(Result(), "client_tls_failed");
  pollfd connects{brokerListener_.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&connects, 1, 0), 0) << "the broker is reached";
}

TEST_F(TerminatedTlsTest, WhereACertificateIsNeededAnApplicationThatShowsOneIsServed) {
  clientTls_ = ClientTls::kRequire;
  files_.clientCa = authority_.path();
  files_.needsCertificate = true;
  Start();
  const auto client = Client({.certificate = authority_.Issue("orders", "")});
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  ASSERT_TRUE(client->Write(RequestFrameOf(kWanted, 1, "clear")));
  EXPECT_EQ(broker_.ReceiveFrame(), RequestFrameOf(kWanted, 1, "sealed"));
}

TEST_F(TerminatedTlsTest, WhatIsNoKafkaInsideOfTlsIsRefused) {
  Start();
  const auto client = Client();
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  client->Write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(broker_.ReceiveRest(), "");
  EXPECT_EQ(Result(), "not_kafka");
}

TEST_F(TerminatedTlsTest, TheBrokerIsNotReachedBeforeTheHandshake) {
  limits_.connectTimeout = std::chrono::milliseconds(200);
  Start();
  application_.Send(kHello);  // the greeting's beginning
  EXPECT_EQ(application_.ReceiveRest(), "");
  EXPECT_EQ(Result(), "client_tls_failed");
  pollfd connects{brokerListener_.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&connects, 1, 0), 0);
}

TEST_F(TerminatedTlsTest, AnApplicationThatDoesNotTrustTheCertificateSaysSo) {
  const io::TestAuthority stranger("stranger");
  Start();
  io::TlsClient client(UniqueFd(::dup(application_.fd())), {.ca = stranger.path()});
  EXPECT_EQ(client.Connect(), "certificate verify failed");
  client.Close();
  application_.Close();
  EXPECT_EQ(Result(), "client_tls_failed");
}

TEST_F(TerminatedTlsTest, AnApplicationWhoseCertificateIsMissingIsToldWhy) {
  files_.clientCa = authority_.path();
  files_.needsCertificate = true;
  Start();
  const auto client = Client({.mostVersion = TLS1_2_VERSION});
  EXPECT_THAT(client->Connect(), testing::HasSubstr("handshake failure"));
  client->Close();
  application_.Close();
  EXPECT_EQ(Result(), "client_tls_failed");
}

TEST_F(TerminatedTlsTest, TheApplicationsCertificateIsKnownBeforeTheBrokerIsReached) {
  files_.clientCa = authority_.path();
  Start();
  const auto client = Client({.certificate = authority_.Issue("orders", "")});
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  Settle();
  EXPECT_EQ(certificateName_, "orders");
  OnLoop([](Connection& connection) { EXPECT_EQ(connection.info().certificateSubject, "CN=orders"); });
}

TEST_F(TerminatedTlsTest, WaitsWhileItsWorkloadHasAsManyHandshakesAsItMay) {
  share_->handshakes = 16;
  Start();
  const auto client = Client();
  std::string said = "?";
  std::thread connecting([&] { said = client->Connect(); });
  for (int looks = 0; CountOf("kveil_client_tls_waiting") != "1" && looks < 10'000; ++looks) ::usleep(1000);
  EXPECT_EQ(CountOf("kveil_client_tls_waiting"), "1");
  OnLoop([this](Connection&) {
    --share_->handshakes;
    share_->waitingToGreet.front()->Set();
  });
  connecting.join();
  EXPECT_EQ(said, "");
  broker_ = AcceptBroker();
  Settle();
  EXPECT_EQ(share_->handshakes, 15u);
  EXPECT_EQ(CountOf("kveil_client_tls_waiting"), "0");
}

// Behind another connection, which goes on waiting.
class WaitingForHandshakeTest : public TerminatedTlsTest {
 protected:
  WaitingForHandshakeTest() {
    share_->handshakes = 16;
    share_->waitingToGreet.push_back(&first_);
  }
  void Wait() {
    Start();
    application_.Send(kHello);
    for (int looks = 0; CountOf("kveil_client_tls_waiting") != "1" && looks < 10'000; ++looks) ::usleep(1000);
    ASSERT_EQ(CountOf("kveil_client_tls_waiting"), "1");
  }
  void ExpectThatItHasLeft(const std::string& result) {
    EXPECT_EQ(Result(), result);
    EXPECT_EQ(share_->handshakes, 16u);
    EXPECT_EQ(share_->bytes, 0u);
    EXPECT_EQ(share_->waitingToGreet, std::list<io::Event*>{&first_});
    EXPECT_EQ(CountOf("kveil_client_tls_waiting"), "0");
  }
  io::Event first_;
};

TEST_F(WaitingForHandshakeTest, EndsWhenItIsAborted) {
  Wait();
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kServed, "the agent stops"); });
  ExpectThatItHasLeft("served");
}

TEST_F(WaitingForHandshakeTest, EndsWhenItIsDrained) {
  Wait();
  OnLoop([](Connection& connection) { connection.Drain(); });
  ExpectThatItHasLeft("served");
}

TEST_F(WaitingForHandshakeTest, EndsWhenItsApplicationHasLeft) {
  Wait();
  application_.Close();
  const auto look = [](Connection& connection) { connection.Sweep(std::chrono::steady_clock::now()); };
  for (int looks = 0; !HasEnded(20) && looks < 500; ++looks) OnLoop(look);
  ExpectThatItHasLeft("client_tls_failed");
}

TEST_F(WaitingForHandshakeTest, EndsAfterTheTimeForAHandshake) {
  limits_.connectTimeout = std::chrono::milliseconds(300);
  Wait();
  const auto look = [](Connection& connection) { connection.Sweep(std::chrono::steady_clock::now()); };
  for (int looks = 0; !HasEnded(20) && looks < 500; ++looks) OnLoop(look);
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  ExpectThatItHasLeft("client_tls_failed");
}

TEST_F(TerminatedTlsTest, AHandshakesMemoryIsOfTheWorkloadsShareUntilItsEnd) {
  Start();
  application_.Send(kHello);
  const auto charged = [this] {
    size_t bytes = 0;
    OnLoop([&](Connection&) { bytes = share_->handshakes == 1 ? share_->bytes : 0; });
    return bytes;
  };
  for (int looks = 0; charged() == 0 && looks < 10'000; ++looks) ::usleep(1000);
  EXPECT_EQ(charged(), size_t{384 << 10});
  OnLoop([this](Connection&) { EXPECT_EQ(budget_->used(), share_->bytes); });
  OnLoop([](Connection& connection) { connection.Abort(observe::ConnectionResult::kServed, "the agent stops"); });
  EXPECT_EQ(Result(), "served");
  EXPECT_EQ(share_->bytes, 0u);
  EXPECT_EQ(budget_->used(), 0u);
}

// The first one of a workload may always begin, others when there is memory of its share.
TEST_F(TerminatedTlsTest, TheFirstHandshakeOfAWorkloadWaitsForNoMemory) {
  frameMemory_ = 1 << 20;
  share_->bytes = 1 << 20;
  Start();
  OnLoop([this](Connection&) { budget_->AcquireOwedAnyway(1 << 20); });
  const auto client = Client();
  EXPECT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
}

TEST_F(TerminatedTlsTest, FurtherHandshakesWaitForMemoryOfTheirWorkloadsShare) {
  frameMemory_ = 1 << 20;
  share_->bytes = 900 << 10;
  share_->handshakes = 1;
  Start();
  OnLoop([this](Connection&) { budget_->AcquireOwedAnyway(900 << 10); });
  const auto client = Client();
  std::string said = "?";
  std::thread connecting([&] { said = client->Connect(); });
  for (int looks = 0; CountOf("kveil_client_tls_waiting") != "1" && looks < 10'000; ++looks) ::usleep(1000);
  EXPECT_EQ(CountOf("kveil_client_tls_waiting"), "1");
  OnLoop([this](Connection&) {
    budget_->ReleaseOwed(900 << 10);
    share_->bytes -= 900 << 10;
    if (!share_->waitingToGreet.empty()) share_->waitingToGreet.front()->Set();
  });
  connecting.join();
  EXPECT_EQ(said, "");
  broker_ = AcceptBroker();
}

// What it has sent already must not make the kernel throw away what it is told.
TEST_F(TerminatedTlsTest, AnApplicationThatHasSentMoreReadsWhyItIsRefused) {
  Start();
  application_.Send(std::string("\x16\x03\x01\x00\x04", 5) + "\x01\xff\xff\xff" + Pattern(40'000, 1));
  const std::string told = application_.ReceiveRest();
  EXPECT_EQ(told.substr(0, 5), std::string("\x15\x03\x03\x00\x02", 5));
  application_.Close();
  EXPECT_EQ(Result(), "client_tls_failed");
}

// What it sends goes on although the agent waits for more before it reads that.
TEST_F(TerminatedTlsTest, AnApplicationThatSendsLittleAtATimeDoesNotStandStill) {
  limits_.stallTimeout = std::chrono::seconds(60);
  Start();
  const auto client = Client();
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  const std::string request = RequestFrameOf(kWanted, 1, Pattern(600'000));
  auto later = std::chrono::steady_clock::now();
  const auto sendAndSweep = [&](size_t from, size_t size) {
    ASSERT_TRUE(client->Write(request.substr(from, size)));
    int unacknowledged = 1;
    while (unacknowledged > 0) ::ioctl(application_.fd(), SIOCOUTQ, &unacknowledged);
    later += std::chrono::seconds(40);
    OnLoop([later](Connection& connection) { connection.Sweep(later); });
  };
  sendAndSweep(0, 100'000);
  for (size_t i = 0; i < 6; ++i) sendAndSweep(100'000 + 1000 * i, 1000);
  ASSERT_FALSE(HasEnded(0));
  ASSERT_TRUE(client->Write(request.substr(106'000)));
  EXPECT_EQ(broker_.ReceiveFrame(), RequestFrameOf(kWanted, 1, "sealed"));
}

TEST_F(TerminatedTlsTest, TlsInsideOfTlsIsNoKafka) {
  Start();
  const auto client = Client();
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  client->Write(kHello);
  EXPECT_EQ(broker_.ReceiveRest(), "");
  EXPECT_EQ(Result(), "not_kafka");
}

// The application must see that the answer is cut off.
TEST_F(TerminatedTlsTest, HalfAnAnswerIsNoEndOfTls) {
  Start();
  const auto client = Client();
  ASSERT_EQ(client->Connect(), "");
  broker_ = AcceptBroker();
  ASSERT_TRUE(client->Write(Other(1)));
  broker_.ReceiveFrame();
  broker_.Send(ResponseFrameOf(1, Pattern(1000, 1)).substr(0, 500));
  EXPECT_EQ(client->Read(500).size(), 500u);
  broker_.Close();
  EXPECT_EQ(client->Read(1), "");
  EXPECT_NE(client->ended, "in order");
}

}  // namespace
}  // namespace kveil::proxy
