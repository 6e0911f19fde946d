// TLS over a socket: what arrives, whom it refuses, and sessions that are taken up again.
#include "io/tls_stream.h"

#include <gmock/gmock.h>
#include <netinet/tcp.h>

#include <array>
#include <future>
#include <thread>

#include "harness.h"
#include "io/both.h"
#include "io/tls_context.h"
#include "tls_server.h"

namespace kveil::io {
namespace {

using testing::HasSubstr;

struct Exchange {
  std::string text;
  size_t sliceSize = 1 << 20;
  size_t readSize = 64 << 10;
  bool pauses = false;  // lets others go on after each read
  std::function<void(TlsServer::Connection&)> serve = Echo;
};

class TlsStreamTest : public LoopTest {
 protected:
  struct Outcome {
    absl::Status handshake;
    absl::Status sent;
    std::string received;
    int end = 1;  // what the last Recv gave
    std::string problem;
    size_t held = 0;  // bytes of ciphertext buffers at the end
    std::string version;
    bool resumed = false;
    bool accepted = false;  // by the server
  };

  TlsStreamTest() { files_.ca = authority_.path(); }

  TlsServer ServerAs(const std::string& names, long seconds = 3600) {
    return TlsServer({.certificate = authority_.Issue("broker", names, seconds), .clientCa = ""});
  }
  std::shared_ptr<TlsContext> Context() {
    auto context = TlsContext::Load(files_);
    EXPECT_TRUE(context.ok()) << context.status();
    return *context;
  }
  TlsPeer Peer() const {
    return TlsPeer{.names = {"broker.example"}, .acceptsAddress = false, .sentName = "", .address = address_};
  }

  // Connects, sends the text, reads until as much has come back or the stream ends.
  Outcome Run(TlsContext& context, TlsServer& server, Exchange exchange = {}, std::optional<TlsPeer> peer = {}) {
    Pair pair = TcpPair();
    auto connection = server.Accept(std::move(pair.far), exchange.serve);
    auto session = context.NewSession(peer.value_or(Peer()));
    EXPECT_TRUE(session.ok()) << session.status();
    Outcome outcome;
    RunToEnd(Talk(std::move(pair.near), *std::move(session), &exchange, &outcome));
    connection->Join();
    outcome.accepted = connection->accepted();
    // A loop runs once.
    loop_ = *Loop::Create(SmallOptions());
    return outcome;
  }

  Task<void> Talk(UniqueFd fd, std::unique_ptr<TlsSession> session, const Exchange* exchange, Outcome* outcome) {
    Socket socket(*loop_, std::move(fd));
    TlsStream stream(socket, std::move(session));
    auto handshake = stream.Handshake(In(std::chrono::seconds(10)));
    outcome->handshake = co_await std::move(handshake);
    if (outcome->handshake.ok()) {
      outcome->version = stream.session().Version();
      outcome->resumed = stream.session().resumed();
      auto both = Both(SendAll(stream, *exchange, &outcome->sent), Receive(socket, stream, *exchange, outcome));
      co_await std::move(both);
      outcome->problem = stream.session().problem();
      outcome->held = stream.session().heldBytes();
    }
    auto closing = socket.Close();
    co_await std::move(closing);
  }
  static Task<void> SendAll(TlsStream& stream, const Exchange& exchange, absl::Status* sent) {
    std::vector<iovec> slices;
    for (size_t at = 0; at < exchange.text.size(); at += exchange.sliceSize) {
      slices.push_back(SliceOf(std::string_view(exchange.text).substr(at, exchange.sliceSize)));
      slices.push_back(iovec{nullptr, 0});
    }
    auto sending = stream.SendAll(slices, In(std::chrono::seconds(30)));
    *sent = co_await std::move(sending);
  }
  Task<void> Receive(Socket& socket, TlsStream& stream, const Exchange& exchange, Outcome* outcome) {
    std::string buffer(exchange.readSize, '\0');
    bool more = false;
    while (outcome->received.size() < exchange.text.size() || outcome->end == 1) {
      if (!more) {
        const absl::Status readable = co_await socket.Readable(In(std::chrono::seconds(30)));
        if (!readable.ok()) co_return;
      }
      outcome->end = stream.Recv(BytesOf(buffer));
      more = stream.hasInput();
      if (exchange.pauses) {
        auto pause = OneTurn(*loop_);
        co_await std::move(pause);
      }
      if (outcome->end == -EAGAIN) continue;
      if (outcome->end <= 0) co_return;
      outcome->received.append(buffer, 0, static_cast<size_t>(outcome->end));
      if (outcome->received.size() == exchange.text.size()) {
        stream.End();
        co_return;
      }
    }
  }

  TestAuthority authority_;
  TlsFiles files_;
  SocketAddress address_ = SocketAddress::V4(htonl(INADDR_LOOPBACK), 9093);
};

TEST_F(TlsStreamTest, CarriesBytesInSlicesAndBuffersOfAnySize) {
  TlsServer server = ServerAs("DNS:broker.example");
  const auto context = Context();
  struct Sizes {
    size_t text, slice, read;
  };
  for (const Sizes sizes : {Sizes{1, 1, 1}, Sizes{100, 3, 7}, Sizes{16 << 10, 16 << 10, 1 << 20},
                            Sizes{(16 << 10) + 1, 5000, 16 << 10}, Sizes{300'000, 1, 1000}, Sizes{200'000, 17'000, 100},
                            Sizes{20 << 20, 900'000, 1 << 20}, Sizes{5 << 20, 4096, 300'001}}) {
    Exchange exchange;
    exchange.text = RandomText(sizes.text, static_cast<uint32_t>(sizes.text));
    exchange.sliceSize = sizes.slice;
    exchange.readSize = sizes.read;
    const Outcome outcome = Run(*context, server, exchange);
    ASSERT_TRUE(outcome.handshake.ok()) << outcome.handshake;
    EXPECT_TRUE(outcome.sent.ok()) << outcome.sent;
    EXPECT_TRUE(outcome.received == exchange.text) << sizes.text << " bytes";
    EXPECT_EQ(outcome.held, 0u) << "a connection that waits holds no buffer";
  }
}

TEST_F(TlsStreamTest, StreamsOfOneThreadDoNotMixWhatTheyHaveNotReadYet) {
  TlsServer server = ServerAs("DNS:broker.example");
  const auto context = Context();
  Exchange one, two;
  one.text = RandomText(300'000, 1);
  two.text = RandomText(300'000, 2);
  one.pauses = two.pauses = true;
  one.readSize = 100;
  two.readSize = 130;
  Pair onePair = TcpPair(), twoPair = TcpPair();
  const auto oneServer = server.Accept(std::move(onePair.far), Echo);
  const auto twoServer = server.Accept(std::move(twoPair.far), Echo);
  Outcome first, second;
  RunToEnd(Talk(std::move(onePair.near), *context->NewSession(Peer()), &one, &first),
           Talk(std::move(twoPair.near), *context->NewSession(Peer()), &two, &second));
  EXPECT_TRUE(first.received == one.text);
  EXPECT_TRUE(second.received == two.text);
}

TEST_F(TlsStreamTest, SpeaksBothVersionsUnlessOneIsForbidden) {
  TlsServer older(
      {.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = "", .mostVersion = TLS1_2_VERSION});
  TlsServer newer = ServerAs("DNS:broker.example");
  Exchange hello;
  hello.text = "hello";
  EXPECT_EQ(Run(*Context(), newer, hello).version, "TLSv1.3");
  const Outcome with12 = Run(*Context(), older, hello);
  EXPECT_EQ(with12.version, "TLSv1.2");
  EXPECT_EQ(with12.received, "hello");
  auto only13 = TlsContext::Load(files_, /*version12=*/false);
  const Outcome refused = Run(**only13, older, hello);
  EXPECT_FALSE(refused.handshake.ok());
  EXPECT_THAT(std::string(refused.handshake.message()), HasSubstr("protocol version"));
}

TEST_F(TlsStreamTest, TakesUpAnEarlierSession) {
  Exchange hello;
  hello.text = "hello";
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServer server(
        {.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = "", .mostVersion = version});
    const auto context = Context();
    EXPECT_FALSE(Run(*context, server, hello).resumed);
    const Outcome again = Run(*context, server, hello);
    EXPECT_TRUE(again.resumed) << version;
    EXPECT_EQ(again.received, "hello");
    TlsPeer other = Peer();
    other.address.setPort(9094);
    EXPECT_FALSE(Run(*context, server, hello, other).resumed) << "that is another broker";
  }
}

TEST_F(TlsStreamTest, TakesUpASessionThatTheServerHasEnded) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServer server(
        {.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = "", .mostVersion = version});
    const auto context = Context();
    Exchange cut;
    cut.text = "hello";
    cut.serve = [](TlsServer::Connection& connection) { (void)connection.Read(5); };
    EXPECT_EQ(Run(*context, server, cut).end, 0);
    EXPECT_TRUE(Run(*context, server, cut).resumed) << version;
  }
}

// However often it is taken up: otherwise a certificate would never be looked at again.
TEST_F(TlsStreamTest, TakesUpASessionOnlyForAWhileAfterItsCertificateWasLookedAt) {
  Exchange hello;
  hello.text = "hello";
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServer server(
        {.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = "", .mostVersion = version});
    auto context = TlsContext::Load(files_, /*version12=*/true, /*resumableFor=*/std::chrono::seconds(1));
    EXPECT_FALSE(Run(**context, server, hello).resumed);
    bool resumed = true;
    for (const Deadline limit = In(std::chrono::seconds(6)); resumed && std::chrono::steady_clock::now() < limit;) {
      ::usleep(50'000);
      resumed = Run(**context, server, hello).resumed;
    }
    EXPECT_FALSE(resumed) << version << ": still";
  }
}

TEST_F(TlsStreamTest, TakesNoSessionUpForAnotherNameOrOtherFiles) {
  Exchange hello;
  hello.text = "hello";
  TlsServer server = ServerAs("DNS:broker.example");
  files_.crl = authority_.Revoke(false);
  const auto context = Context();
  EXPECT_FALSE(Run(*context, server, hello).resumed);
  EXPECT_TRUE(Run(*context, server, hello).resumed);
  TlsPeer other = Peer();
  other.names = {"other.example"};
  EXPECT_THAT(std::string(Run(*context, server, hello, other).handshake.message()), HasSubstr("hostname mismatch"));
  authority_.Revoke(true);
  EXPECT_TRUE(Run(*context, server, hello).resumed) << "the files as they were read";
  EXPECT_THAT(std::string(Run(*Context(), server, hello).handshake.message()), HasSubstr("certificate revoked"));
}

TEST_F(TlsStreamTest, GoesOnWhenThePeerChangesItsKeys) {
  TlsServer server = ServerAs("DNS:broker.example");
  Exchange exchange;
  exchange.text = RandomText(2'000'000, 5);
  exchange.serve = [](TlsServer::Connection& connection) {
    for (std::string bytes; !(bytes = connection.Read(100'000)).empty();) {
      SSL_key_update(connection.ssl(), SSL_KEY_UPDATE_REQUESTED);
      connection.Write(bytes);
    }
  };
  const Outcome outcome = Run(*Context(), server, exchange);
  EXPECT_TRUE(outcome.sent.ok()) << outcome.sent;
  EXPECT_TRUE(outcome.received == exchange.text);
}

TEST_F(TlsStreamTest, SeesTheEndThatComesWithTheLastBytes) {
  TlsServer server = ServerAs("DNS:broker.example");
  Exchange exchange;
  exchange.text = "hello, who is there?";
  exchange.serve = [](TlsServer::Connection& connection) {
    (void)connection.Read(20);
    const int on = 1, off = 0;
    ::setsockopt(connection.fd(), IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
    connection.Write("nobody");
    SSL_shutdown(connection.ssl());
    ::setsockopt(connection.fd(), IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
    char byte;
    while (::recv(connection.fd(), &byte, 1, 0) > 0) continue;  // TCP has not ended
  };
  const Outcome outcome = Run(*Context(), server, exchange);
  EXPECT_EQ(outcome.received, "nobody");
  EXPECT_EQ(outcome.end, 0);
}

// A server whose records the test passes on itself: ciphertext from and to strings.
class RawServer {
 public:
  RawServer(const TestCertificate& own, const std::string& clientCa)
      : context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
    SSL_CTX* const context = context_.get();
    SSL_CTX_use_certificate_chain_file(context, own.certificate.c_str());
    SSL_CTX_use_PrivateKey_file(context, own.key.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_load_verify_file(context, clientCa.c_str());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_max_send_fragment(context, 512);  // a ticket that holds the client's certificate takes two records
    ssl_.reset(SSL_new(context));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl_.get());
  }
  void Take(Bytes ciphertext) {
    BIO_write(SSL_get_rbio(ssl_.get()), ciphertext.data(), static_cast<int>(ciphertext.size()));
  }
  bool Handshake() { return SSL_do_handshake(ssl_.get()) == 1; }
  std::string Output() {
    std::string bytes(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())), '\0');
    BIO_read(SSL_get_wbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
    return bytes;
  }
  std::string Read() {
    std::string bytes(1000, '\0');
    const int count = SSL_read(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
    bytes.resize(static_cast<size_t>(std::max(count, 0)));
    return bytes;
  }

 private:
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
};

TEST_F(TlsStreamTest, SendsAfterTheRestOfAMessageOfTlsOfWhichHalfHasCome) {
  const TestCertificate own = authority_.Issue("agent", "DNS:agent");
  files_.certificate = own.certificate;
  files_.key = own.key;
  RawServer server(authority_.Issue("broker", "DNS:broker.example"), authority_.path());
  Pair pair = TcpPair();
  const auto passToServer = [&] {
    std::array<uint8_t, 10'000> bytes;
    const ssize_t count = ::recv(pair.far.get(), bytes.data(), bytes.size(), 0);
    server.Take(Bytes(bytes).first(static_cast<size_t>(std::max<ssize_t>(count, 0))));
    return count > 0;
  };
  const auto passToClient = [&](std::string_view bytes) { (void)!::write(pair.far.get(), bytes.data(), bytes.size()); };
  std::string request, tickets;
  std::promise<void> hasTried;
  std::thread broker([&] {
    bool done = false;
    while (!done && passToServer()) {
      done = server.Handshake();
      if (!done) passToClient(server.Output());
    }
    tickets = server.Output();
    const size_t first = 5 + (static_cast<uint8_t>(tickets[3]) << 8 | static_cast<uint8_t>(tickets[4]));
    EXPECT_LT(first, tickets.size()) << "one record";
    passToClient(std::string_view(tickets).substr(0, first));
    hasTried.get_future().wait();
    passToClient(std::string_view(tickets).substr(first));
    while ((request += server.Read()).size() < 7 && passToServer()) continue;
  });
  absl::Status sent;
  const auto talk = [&](UniqueFd fd, std::unique_ptr<TlsSession> session) -> Task<void> {
    Socket socket(*loop_, std::move(fd));
    TlsStream stream(socket, std::move(session));
    auto shaking = stream.Handshake(In(std::chrono::seconds(10)));
    EXPECT_TRUE((co_await std::move(shaking)).ok());
    std::string buffer(100, '\0');
    EXPECT_TRUE((co_await socket.Readable(In(std::chrono::seconds(10)))).ok());
    EXPECT_EQ(stream.Recv(BytesOf(buffer)), -EAGAIN);
    const auto send = [&]() -> Task<void> {
      const iovec slice = SliceOf("request");
      auto sending = stream.SendAll(absl::MakeConstSpan(&slice, 1), In(std::chrono::seconds(10)));
      sent = co_await std::move(sending);
    };
    const auto receive = [&]() -> Task<void> {
      hasTried.set_value();
      EXPECT_TRUE((co_await socket.Readable(In(std::chrono::seconds(10)))).ok());
      EXPECT_EQ(stream.Recv(BytesOf(buffer)), -EAGAIN);
    };
    auto sending = send();
    auto receiving = receive();
    auto both = Both(std::move(sending), std::move(receiving));
    co_await std::move(both);
    auto closing = socket.Close();
    co_await std::move(closing);
  };
  RunToEnd(talk(std::move(pair.near), *Context()->NewSession(Peer())));
  pair.near.Reset();
  broker.join();
  EXPECT_TRUE(sent.ok()) << sent;
  EXPECT_EQ(request, "request");
}

TEST_F(TlsStreamTest, AcceptsTheNamesAndAddressesThatAreExpected) {
  struct Case {
    const char* certificate;
    std::vector<std::string> expected;
    bool orAddress;
    bool accepted;
  };
  const std::vector<Case> cases = {
      {"DNS:broker.example", {"broker.example"}, false, true},
      {"DNS:broker.example", {"other.example"}, false, false},
      {"DNS:b2.example", {"b1.example", "b2.example"}, false, true},
      {"DNS:*.example.org", {"b1.example.org"}, false, true},
      {"DNS:*.example.org", {"a.b1.example.org"}, false, false},
      {"DNS:b7.brokers.example", {".example"}, false, true},
      {"DNS:b7.brokers.other", {".example"}, false, false},
      {"IP:127.0.0.1", {}, true, true},
      {"IP:127.0.0.2", {}, true, false},
      {"DNS:broker.example", {}, true, false},
      {"IP:127.0.0.1", {"broker.example"}, true, true},
      {"IP:127.0.0.1", {"broker.example"}, false, false},
      {"IP:127.0.0.1", {}, false, false},
      {"", {"broker"}, false, false},  // the common name, which does not count
      {"IP:127.0.0.3", {"broker"}, true, false},
  };
  for (const Case& one : cases) {
    TlsServer server = ServerAs(one.certificate);
    const Outcome outcome =
        Run(*Context(), server, {},
            TlsPeer{.names = one.expected, .acceptsAddress = one.orAddress, .sentName = "", .address = address_});
    EXPECT_EQ(outcome.handshake.ok(), one.accepted) << one.certificate << " " << outcome.handshake;
    if (!one.accepted) {
      EXPECT_EQ(outcome.handshake.code(), absl::StatusCode::kPermissionDenied) << outcome.handshake;
      EXPECT_THAT(std::string(outcome.handshake.message()), HasSubstr("mismatch"));
      EXPECT_FALSE(outcome.accepted) << "the server is told";
    }
  }
}

TEST_F(TlsStreamTest, RefusesExpiredAndUnknownCertificates) {
  TlsServer expired = ServerAs("DNS:broker.example", -60);
  EXPECT_THAT(std::string(Run(*Context(), expired).handshake.message()), HasSubstr("certificate has expired"));
  TestAuthority stranger("a stranger");
  TlsServer unknown({.certificate = stranger.Issue("broker", "DNS:broker.example"), .clientCa = ""});
  const Outcome outcome = Run(*Context(), unknown);
  EXPECT_EQ(outcome.handshake.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(outcome.handshake.message()), HasSubstr("unable to get local issuer certificate"));
}

TEST_F(TlsStreamTest, RefusesARevokedCertificate) {
  TlsServer server = ServerAs("DNS:broker.example");
  files_.crl = authority_.Revoke(false);
  EXPECT_TRUE(Run(*Context(), server).handshake.ok());
  authority_.Revoke(true);
  EXPECT_THAT(std::string(Run(*Context(), server).handshake.message()), HasSubstr("certificate revoked"));
}

TEST_F(TlsStreamTest, ShowsItsCertificateWhereOneIsAskedFor) {
  TlsServer server({.certificate = authority_.Issue("broker", "DNS:broker.example"), .clientCa = authority_.path()});
  const TestCertificate own = authority_.Issue("agent", "DNS:agent");
  Exchange hello;
  hello.text = "hello";
  const Outcome without = Run(*Context(), server, hello);
  EXPECT_FALSE(without.accepted);
  EXPECT_EQ(without.received, "");
  EXPECT_EQ(without.end, -EPROTO) << "with TLS 1.3 the answer comes after the handshake";
  EXPECT_THAT(without.problem, HasSubstr("certificate required"));
  files_.certificate = own.certificate;
  files_.key = own.key;
  const Outcome with = Run(*Context(), server, hello);
  EXPECT_TRUE(with.accepted);
  EXPECT_EQ(with.received, "hello");
}

TEST_F(TlsStreamTest, SaysWhatIsWrongWithItsFiles) {
  const auto problem = [](const TlsFiles& files) { return std::string(TlsContext::Load(files).status().message()); };
  const TestCertificate own = authority_.Issue("agent", ""), other = authority_.Issue("other", "");
  EXPECT_THAT(problem({.ca = "/nowhere/ca.pem"}), HasSubstr("/nowhere/ca.pem: cannot be read: No such file"));
  EXPECT_THAT(problem({.ca = own.key}), HasSubstr(own.key + ": no certificates"));
  EXPECT_THAT(problem({.ca = authority_.path(), .certificate = own.key, .key = own.key}),
              HasSubstr("no certificate is"));
  EXPECT_THAT(problem({.ca = authority_.path(), .certificate = own.certificate, .key = own.certificate}),
              HasSubstr("no private key"));
  EXPECT_THAT(problem({.ca = authority_.path(), .certificate = own.certificate, .key = other.key}),
              HasSubstr(other.key + ": is not the key of " + own.certificate));
  EXPECT_THAT(problem({.ca = authority_.path(), .certificate = own.certificate, .key = authority_.RsaKey()}),
              HasSubstr("is not the key of " + own.certificate));
  EXPECT_THAT(problem({.ca = authority_.path(), .certificate = "", .key = "", .crl = own.certificate}),
              HasSubstr("no certificate revocation list"));
}

TEST_F(TlsStreamTest, TellsTheEndOfTheStreamFromBytesThatAreNoTls) {
  TlsServer server = ServerAs("DNS:broker.example");
  Exchange longer;
  longer.text = "x";
  longer.serve = [](TlsServer::Connection& connection) { (void)connection.Read(1); };  // and ends in order
  EXPECT_EQ(Run(*Context(), server, longer).end, 0);
  longer.serve = [](TlsServer::Connection& connection) {
    (void)connection.Read(1);
    (void)!::write(connection.fd(), "\x17\x03\x03\x00\x20 this is no record of this key at all", 40);
  };
  EXPECT_EQ(Run(*Context(), server, longer).end, -EPROTO);
}

TEST_F(TlsStreamTest, SaysSoWhenThePeerSpeaksNoTls) {
  Pair pair = TcpPair();
  (void)!::write(pair.far.get(), "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
  Outcome outcome;
  Exchange exchange;
  RunToEnd(Talk(std::move(pair.near), *Context()->NewSession(Peer()), &exchange, &outcome));
  EXPECT_EQ(outcome.handshake.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(outcome.handshake.message()), HasSubstr("TLS: "));
}

TEST_F(TlsStreamTest, GivesUpAHandshakeThatIsNotAnswered) {
  Pair pair = TcpPair();
  absl::Status handshake;
  const auto talk = [&](UniqueFd fd, std::unique_ptr<TlsSession> session) -> Task<void> {
    Socket socket(*loop_, std::move(fd));
    TlsStream stream(socket, std::move(session));
    auto shaking = stream.Handshake(In(std::chrono::milliseconds(50)));
    handshake = co_await std::move(shaking);
    auto closing = socket.Close();
    co_await std::move(closing);
  };
  RunToEnd(talk(std::move(pair.near), *Context()->NewSession(Peer())));
  EXPECT_EQ(handshake.code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace kveil::io
