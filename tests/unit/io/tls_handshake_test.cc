// What a client's handshakes may take of a server: its memory, and its loop's time.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <vector>

#include "certificates.h"
#include "harness.h"
#include "io/tls_server_context.h"
#include "io/tls_stream.h"
#include "tls_client.h"

namespace kveil::io {
namespace {

class TlsHandshakeTest : public LoopTest {
 protected:
  TlsHandshakeTest() {
    const TestCertificate issued = authority_.Issue("b", "DNS:b.example");
    ::chmod(issued.key.c_str(), 0600);
    auto loaded = TlsServerContext::Load({.identities = {{.certificate = issued.certificate, .key = issued.key}}});
    if (!loaded.ok()) ADD_FAILURE() << loaded.status();
    context_ = *std::move(loaded);
  }
  std::unique_ptr<TlsSession> Session() { return *context_->NewSession({}); }

  // What Handshake says to a greeting of that length, in records as long as they may be.
  std::string SaidTo(size_t size) {
    const std::unique_ptr<TlsSession> session = Session();
    std::string greeting = {1, static_cast<char>(size >> 16), static_cast<char>(size >> 8), static_cast<char>(size)};
    greeting.resize(size + 4 - 1);  // all but its last byte
    absl::StatusOr<bool> done = false;
    for (size_t at = 0; at < greeting.size() && done.ok();) {
      const std::string part = greeting.substr(at, 16'000);
      at += part.size();
      const std::string record =
          std::string{0x16, 3, 1, static_cast<char>(part.size() >> 8), static_cast<char>(part.size())} + part;
      session->Feed(AsBytes(record));
      done = session->Handshake();
      session->KeepInput();
    }
    return done.ok() ? "more" : std::string(done.status().message());
  }

  // A greeting that can be answered, as often as one likes.
  static ByteBuffer Greeting() {
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
    BIO* const said = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), said);
    SSL_set_connect_state(ssl.get());
    SSL_do_handshake(ssl.get());
    ByteBuffer greeting(BIO_ctrl_pending(said));
    BIO_read(said, greeting.data(), static_cast<int>(greeting.size()));
    return greeting;
  }

  TestAuthority authority_;
  std::shared_ptr<const TlsServerContext> context_;
};

TEST_F(TlsHandshakeTest, AGreetingHasABound) {
  EXPECT_EQ(SaidTo(16'000), "more");
  EXPECT_EQ(SaidTo(17'000),
            "TLS: the application sends too much in its handshake (allowed: 16384 bytes first, and 49152 in all)");
  EXPECT_EQ(SaidTo(100'000), SaidTo(17'000));
}

Task<void> Greet(TlsStream& stream, Socket& socket, HandshakePace& pace, absl::Status& said) {
  auto shaking = stream.Handshake(In(std::chrono::seconds(60)), &pace);
  said = co_await std::move(shaking);
  auto closing = socket.Close();
  co_await std::move(closing);
}

TEST_F(TlsHandshakeTest, OthersHaveTheirTurnsBetweenHandshakes) {
  constexpr size_t kClients = 8;
  const ByteBuffer greeting = Greeting();
  std::vector<Pair> pairs;
  std::vector<std::unique_ptr<Socket>> sockets;
  std::vector<std::unique_ptr<TlsStream>> streams;
  std::vector<absl::Status> said(kClients);
  HandshakePace pace(*loop_);
  pace.notBefore = In(std::chrono::milliseconds(50));
  const Deadline first = pace.notBefore;
  for (size_t i = 0; i < kClients; ++i) {
    Pair pair = TcpPair();
    EXPECT_EQ(::send(pair.near.get(), greeting.data(), greeting.size(), 0), static_cast<ssize_t>(greeting.size()));
    sockets.push_back(std::make_unique<Socket>(*loop_, std::move(pair.far)));
    streams.push_back(std::make_unique<TlsStream>(*sockets.back(), Session()));
    pairs.push_back(std::move(pair));
    loop_->Spawn(Greet(*streams.back(), *sockets.back(), pace, said[i]));
  }
  size_t mostInATurn = 0;
  Deadline began = Deadline::max();
  const auto watch = [&]() -> Task<void> {
    for (size_t answered = 0; answered < kClients;) {
      co_await loop_->Sleep(std::chrono::nanoseconds(0));
      size_t now = 0;
      for (const Pair& pair : pairs) {
        pollfd answer{pair.near.get(), POLLIN, 0};
        now += ::poll(&answer, 1, 0) == 1 ? 1 : 0;
      }
      if (now > 0) began = std::min(began, std::chrono::steady_clock::now());
      mostInATurn = std::max(mostInATurn, now - answered);
      answered = now;
    }
    for (const Pair& pair : pairs) ::shutdown(pair.near.get(), SHUT_WR);
  };
  RunToEnd(watch());
  EXPECT_EQ(mostInATurn, 1u);
  EXPECT_GE(began, first);
  EXPECT_GT(pace.notBefore, began);
  for (const absl::Status& each : said) EXPECT_EQ(each.code(), absl::StatusCode::kUnavailable) << each;
}

TEST_F(TlsHandshakeTest, OneThatWaitsForItsTurnCanBeEnded) {
  Pair pair = TcpPair();
  Socket socket(*loop_, std::move(pair.far));
  TlsStream stream(socket, Session());
  HandshakePace pace(*loop_);
  absl::Status said;
  const auto end = [&]() -> Task<void> {
    auto held = co_await pace.step.Lock();
    loop_->Spawn(Greet(stream, socket, pace, said));
    co_await loop_->Sleep(std::chrono::nanoseconds(0));
    socket.Cancel();
  };
  RunToEnd(end());
  EXPECT_EQ(said.code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace kveil::io
