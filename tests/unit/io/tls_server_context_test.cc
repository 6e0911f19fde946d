// The server's side of TLS: which certificate a client is shown, whose are asked for, what is resumed, what is refused.
#include "io/tls_server_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "certificates.h"
#include "harness.h"
#include "tls_client.h"

namespace kveil::io {
namespace {

using testing::HasSubstr;

class TlsServerContextTest : public testing::Test {
 protected:
  TlsServerFiles::Identity Issue(const std::string& file, const std::string& names, long seconds = 3600) {
    const TestCertificate issued = authority_.Issue(file, names, seconds);
    ::chmod(issued.key.c_str(), 0600);
    return {.certificate = issued.certificate, .key = issued.key};
  }
  std::string Load(bool version12 = true) {
    auto loaded = TlsServerContext::Load(files_, version12);
    if (!loaded.ok()) return std::string(loaded.status().message());
    context_ = *std::move(loaded);
    return "";
  }

  // One handshake; afterwards the server says one byte and reads until the end. `client_` is the client then. Returns
  // what the server thinks of it: "resumed", "done", or why not.
  std::string Meet(const TlsClientOptions& options, const std::function<void(TlsClient&)>& then = nullptr) {
    Pair pair = TcpPair();
    auto made = context_->NewSession(broker_);
    EXPECT_TRUE(made.ok());
    session_ = *std::move(made);
    client_ = std::make_unique<TlsClient>(std::move(pair.near), options);
    std::string clientSaid;
    std::thread client([&] {
      clientSaid = client_->Connect();
      if (clientSaid.empty() && then) then(*client_);
      ::shutdown(client_->fd(), SHUT_WR);
    });
    absl::StatusOr<bool> done = false;
    std::array<uint8_t, 16384> input;
    for (bool open = true; open;) {
      if (done.ok() && !*done) {
        done = session_->Handshake();
        if (done.ok() && *done) {
          EXPECT_TRUE(session_->Write(AsBytes("!")).ok());
        }
      }
      if (done.ok() && *done) {
        std::array<uint8_t, 16384> plaintext;
        int size = 0;
        while ((size = session_->Read(MutableBytes(plaintext))) > 0)
          read_ += AsText(Bytes(plaintext).first(static_cast<size_t>(size)));
        if (size != -EAGAIN) break;
      }
      const ByteBuffer output = std::exchange(session_->output(), ByteBuffer());
      if (!output.empty()) (void)!::send(pair.far.get(), output.data(), output.size(), MSG_NOSIGNAL);
      if (!done.ok()) break;
      const ssize_t size = ::recv(pair.far.get(), input.data(), input.size(), 0);
      if (size < 0 && errno == EINTR) continue;
      open = size > 0;
      if (!open) break;
      session_->Feed(Bytes(input).first(static_cast<size_t>(size)));
      session_->KeepInput();
    }
    ::shutdown(pair.far.get(), SHUT_RDWR);
    client.join();
    if (!done.ok()) return std::string(done.status().message());
    if (!*done) return StrCat("the client refused: ", clientSaid);
    return session_->resumed() ? "resumed" : "done";
  }
  std::string Shown(const std::string& sentName, int version = TLS1_3_VERSION) {
    const std::string said = Meet({.ca = authority_.path(), .sentName = sentName, .mostVersion = version});
    return said == "done" ? client_->ServerName() : said;
  }

  TestAuthority authority_;
  TlsServerFiles files_;
  std::shared_ptr<const TlsServerContext> context_;
  TlsPeer broker_{
      .names = {"b2.example"}, .acceptsAddress = true, .sentName = "", .address = *SocketAddress::Parse("10.0.0.1", 1)};
  std::unique_ptr<TlsSession> session_;
  std::unique_ptr<TlsClient> client_;
  std::string read_;
};

TEST_F(TlsServerContextTest, ShowsTheCertificateOfTheNameThatTheClientAsksFor) {
  files_.identities = {Issue("first", "DNS:first.example"), Issue("b1", "DNS:b1.example"),
                       Issue("b2", "DNS:b2.example"), Issue("wild", "DNS:*.wild.example"),
                       Issue("address", "IP:10.0.0.1")};
  ASSERT_EQ(Load(), "");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_EQ(Shown("b1.example", version), "b1");
    EXPECT_EQ(Shown("B1.EXAMPLE", version), "b1");
    EXPECT_EQ(Shown("a.wild.example", version), "wild");
    EXPECT_EQ(Shown("a.b.wild.example", version), "b2") << "a wildcard stands for one label";
    EXPECT_EQ(Shown("unknown.example", version), "b2") << "what the agent knows of the broker";
    EXPECT_EQ(Shown("", version), "b2");
  }
  broker_.names = {};
  EXPECT_EQ(Shown(""), "address");
  broker_.address = *SocketAddress::Parse("10.0.0.2", 1);
  EXPECT_EQ(Shown(""), "first");
}

TEST_F(TlsServerContextTest, OfCertificatesWithOneNameAnExpiredOneComesLast) {
  files_.identities = {Issue("late", "DNS:b2.example", -60), Issue("early", "DNS:b2.example"),
                       Issue("gone", "DNS:gone.example", -60)};
  ASSERT_EQ(Load(), "");
  EXPECT_EQ(Shown("b2.example"), "early");
  EXPECT_THAT(Shown("gone.example"), HasSubstr("certificate expired")) << "there is no other of that name";
}

TEST_F(TlsServerContextTest, AClientIsShownTheKindOfKeyThatItSupports) {
  files_.identities = {Issue("ecdsa", "DNS:b2.example")};
  authority_.issuesRsa = true;
  files_.identities.push_back(Issue("rsa", "DNS:b2.example"));
  ASSERT_EQ(Load(), "");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (const auto& [signatures, shown] : {std::pair("RSA-PSS+SHA256", "rsa"), std::pair("ECDSA+SHA256", "ecdsa")}) {
      EXPECT_EQ(Meet({.sentName = "b2.example", .mostVersion = version, .signatures = signatures}), "done");
      EXPECT_EQ(client_->ServerName(), shown);
    }
  }
}

TEST_F(TlsServerContextTest, WithTls12OnlyCiphersWithForwardSecrecyAndAuthentication) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  ASSERT_EQ(Load(), "");
  const auto with = [&](const std::string& ciphers) {
    return Meet({.mostVersion = TLS1_2_VERSION, .ciphers = ciphers});
  };
  EXPECT_EQ(with("ECDHE-ECDSA-AES128-GCM-SHA256"), "done");
  EXPECT_EQ(with("ECDHE-ECDSA-CHACHA20-POLY1305"), "done");
  EXPECT_THAT(with("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"), HasSubstr("no shared cipher"));
}

TEST_F(TlsServerContextTest, SpeaksTheVersionsThatAreAllowed) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  ASSERT_EQ(Load(), "");
  EXPECT_EQ(Meet({.mostVersion = TLS1_2_VERSION}), "done");
  EXPECT_EQ(session_->Version(), "TLSv1.2");
  EXPECT_EQ(Meet({}), "done");
  EXPECT_EQ(session_->Version(), "TLSv1.3");
  ASSERT_EQ(Load(false), "");
  EXPECT_THAT(Meet({.mostVersion = TLS1_2_VERSION}), HasSubstr("unsupported protocol"));
}

TEST_F(TlsServerContextTest, ServesAClientThatOffersProtocolsAndChoosesNone) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  ASSERT_EQ(Load(), "");
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto askAndRead = [](TlsClient& client) {
      EXPECT_TRUE(client.Write("?"));
      EXPECT_EQ(client.Read(1), "!");
    };
    read_.clear();
    EXPECT_EQ(Meet({.mostVersion = version, .protocols = "\x02h2\x05kafka"}, askAndRead), "done");
    EXPECT_EQ(client_->Protocol(), "");
    EXPECT_EQ(read_, "?");
  }
}

class TlsTicketTest : public TlsServerContextTest, public testing::WithParamInterface<int> {
 protected:
  // Reads a byte, so that the ticket has come, and ends in order: OpenSSL resumes nothing that broke.
  std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> Session(const TlsClientOptions& options) {
    const auto readAndEnd = [](TlsClient& client) {
      EXPECT_EQ(client.Read(1), "!");
      client.End();
    };
    EXPECT_EQ(Meet(options, readAndEnd), "done");
    return {SSL_get1_session(client_->ssl()), SSL_SESSION_free};
  }
};

TEST_P(TlsTicketTest, ResumesASessionUnderTheSameContextOnly) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  ASSERT_EQ(Load(), "");
  TlsClientOptions options{.ca = authority_.path(), .mostVersion = GetParam()};
  const auto session = Session(options);
  options.resumed = session.get();
  EXPECT_EQ(Meet(options), "resumed");
  ASSERT_EQ(Load(), "");
  EXPECT_EQ(Meet(options), "done") << "the files were read again";
}

TEST_P(TlsTicketTest, ResumesNothingWhereCertificatesAreChecked) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  files_.clientCa = authority_.path();
  ASSERT_EQ(Load(), "");
  TlsClientOptions options{
      .ca = authority_.path(), .certificate = authority_.Issue("orders", ""), .mostVersion = GetParam()};
  const auto session = Session(options);
  options.resumed = session.get();
  EXPECT_EQ(Meet(options), "done");
}

INSTANTIATE_TEST_SUITE_P(, TlsTicketTest, testing::Values(TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& version) { return version.param == TLS1_2_VERSION ? "Tls12" : "Tls13"; });

TEST_F(TlsServerContextTest, TellsWhoseCertificateTheClientHasShown) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  files_.clientCa = authority_.path();
  ASSERT_EQ(Load(), "");
  const TestCertificate orders = authority_.Issue("orders", "");
  EXPECT_EQ(Meet({.certificate = orders}), "done");
  EXPECT_EQ(session_->ClientCertificate().subject, "CN=orders");
  EXPECT_EQ(session_->ClientCertificate().commonName, "orders");
  EXPECT_EQ(Meet({.certificate = authority_.Issue("x", "", 3600, "CN=a+b,OU=dev,CN=b")}), "done");
  EXPECT_EQ(session_->ClientCertificate().subject, "CN=b,OU=dev,CN=a\\+b");
  EXPECT_EQ(session_->ClientCertificate().commonName, "") << "it has two";
  EXPECT_EQ(Meet({.certificate = authority_.Issue("x", "DNS:x", 3600, "CN=")}), "done");
  EXPECT_EQ(session_->ClientCertificate().subject, "nobody") << "it has shown one";
  EXPECT_EQ(Meet({}), "done") << "it is only asked for";
  EXPECT_EQ(session_->ClientCertificate().subject, "");
  EXPECT_EQ(session_->ClientCertificate().commonName, "");

  const TestAuthority stranger("stranger");
  TestAuthority other("other");
  EXPECT_THAT(Meet({.certificate = other.Issue("orders", "")}),
              HasSubstr("the application's certificate is refused: "));
  EXPECT_THAT(Meet({.certificate = authority_.Issue("late", "", -60)}), HasSubstr("certificate has expired"));
  std::string names = "DNS:a.example";
  for (int i = 0; i < 1000; ++i) names += StrCat(",DNS:service-", i, ".example");
  EXPECT_THAT(Meet({.certificate = authority_.Issue("many", names)}), HasSubstr("excessive message size"));
  files_.needsCertificate = true;
  ASSERT_EQ(Load(), "");
  EXPECT_THAT(Meet({}), HasSubstr("peer did not return a certificate"));
  EXPECT_EQ(Meet({.certificate = orders}), "done");
}

TEST_F(TlsServerContextTest, ASessionKeepsNoKeyAfterItsHandshake) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  ASSERT_EQ(Load(), "");
  EXPECT_EQ(Meet({}), "done");
  const std::weak_ptr<const TlsServerContext> context = context_;
  context_.reset();
  EXPECT_TRUE(context.expired());
  EXPECT_FALSE(session_->holdsKey());
}

TEST_F(TlsServerContextTest, ARefusedFileIsNamedWithTheReason) {
  const TlsServerFiles::Identity good = Issue("b2", "DNS:b2.example");
  const auto with = [&](const std::string& certificate, const std::string& key) {
    files_.identities = {good, {.certificate = certificate, .key = key}};
    return Load();
  };
  ASSERT_EQ(with(good.certificate, good.key), "");
  EXPECT_THAT(with("/nowhere.crt", good.key), HasSubstr("/nowhere.crt: cannot be read: No such file"));
  EXPECT_THAT(with(good.key, good.key), HasSubstr("b2.key: no certificate is in it"));
  EXPECT_THAT(with(good.certificate, "/nowhere.key"), HasSubstr("/nowhere.key: cannot be read"));
  const std::string rsa = authority_.RsaKey();
  ::chmod(rsa.c_str(), 0600);
  EXPECT_EQ(with(good.certificate, rsa), StrCat(rsa, ": is not the key of ", good.certificate));
  EXPECT_THAT(with(good.certificate, "/dev"), HasSubstr("/dev: is no regular file"));
  const std::string text = authority_.folder() + "/text.key";
  std::ofstream(text) << "no key";
  ::chmod(text.c_str(), 0600);
  EXPECT_EQ(with(good.certificate, text), StrCat(text, ": no private key without a passphrase is in it"));
  for (const mode_t mode : {0640, 0604}) {
    ::chmod(good.key.c_str(), mode);
    EXPECT_EQ(with(good.certificate, good.key),
              StrCat(good.key, ": others than its owner may use it: make its mode 600"));
  }
  ::chmod(good.key.c_str(), 0400);
  files_.clientCa = text;
  EXPECT_EQ(with(good.certificate, good.key), StrCat(text, ": no certificate is in it"));
  files_.clientCa.clear();

  const TlsServerFiles::Identity nameless = Issue("nameless", "");
  EXPECT_THAT(with(nameless.certificate, nameless.key), HasSubstr("nameless.crt: has no alternative name"));
  std::ofstream(good.certificate, std::ios::app) << "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  EXPECT_EQ(with(good.certificate, good.key), StrCat(good.certificate, ": certificate 2 in it is damaged"));
}

TEST_F(TlsServerContextTest, AFileThatWouldHoldTheAgentUpIsRefused) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  const std::string pipe = authority_.folder() + "/pipe", empty = authority_.folder() + "/empty",
                    vast = authority_.folder() + "/vast";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::ofstream(empty) << "";
  std::ofstream(vast) << std::string((1 << 20) + 1, ' ');
  const TlsServerFiles good = files_;
  for (const auto& [path, problem] : {std::pair(pipe, ": is no regular file"), std::pair(empty, ": is empty"),
                                      std::pair(vast, ": is too long for a list of certificates")}) {
    files_ = good;
    files_.identities[0].certificate = path;
    EXPECT_EQ(Load(), path + problem);
    files_ = good;
    files_.clientCa = path;
    EXPECT_EQ(Load(), path + problem);
  }
}

TEST_F(TlsServerContextTest, NamesTheFileWithACertificateThatIsNotValidNow) {
  const TlsServerFiles::Identity good = Issue("b2", "DNS:b2.example"), late = Issue("late", "DNS:b3.example", -60);
  authority_.validFrom = 600;
  const TlsServerFiles::Identity early = Issue("early", "DNS:b4.example");
  const auto outdated = [&](const TlsServerFiles& files) {
    files_ = files;
    EXPECT_EQ(Load(), "");
    return context_->Outdated();
  };
  EXPECT_EQ(outdated({.identities = {good}, .clientCa = authority_.path()}), "");
  EXPECT_EQ(outdated({.identities = {good, late}, .clientCa = ""}),
            StrCat(late.certificate, ": a certificate in it has expired"));
  EXPECT_EQ(outdated({.identities = {good, early}, .clientCa = ""}),
            StrCat(early.certificate, ": a certificate in it is not valid yet"));
  EXPECT_EQ(outdated({.identities = {good}, .clientCa = late.certificate}),
            StrCat(late.certificate, ": a certificate in it has expired"));
  std::ofstream(good.certificate, std::ios::app) << std::ifstream(late.certificate).rdbuf();
  EXPECT_EQ(outdated({.identities = {good}, .clientCa = ""}),
            StrCat(good.certificate, ": a certificate in it has expired"))
      << "in its chain";
}

TEST_F(TlsServerContextTest, AClientThatAsksForNewKeysAgainAndAgainIsGivenUp) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  ASSERT_EQ(Load(), "");
  const auto askFor = [](int times, int rounds = 1) {
    return [times, rounds](TlsClient& client) {
      for (int i = 0; i < times * rounds; ++i) {
        SSL_key_update(client.ssl(), i % 2 == 0 ? SSL_KEY_UPDATE_NOT_REQUESTED : SSL_KEY_UPDATE_REQUESTED);
        if (SSL_do_handshake(client.ssl()) != 1) break;
        if ((i + 1) % times == 0) client.Write("after");
      }
    };
  };
  EXPECT_EQ(Meet({}, askFor(900, 3)), "done");
  EXPECT_EQ(read_, "afterafterafter") << "what counts is how many there are between other things";
  EXPECT_EQ(session_->problem(), "");
  read_.clear();
  EXPECT_EQ(Meet({}, askFor(1100)), "done");
  EXPECT_EQ(read_, "");
  EXPECT_EQ(session_->problem(), "the peer asks for new keys or another handshake again and again");
}

TEST_F(TlsServerContextTest, AClientMayNotRenegotiate) {
  files_.identities = {Issue("b2", "DNS:b2.example")};
  ASSERT_EQ(Load(), "");
  int renegotiated = 1;
  const auto renegotiate = [&](TlsClient& client) {
    client.Write("before");
    SSL_renegotiate(client.ssl());
    renegotiated = SSL_do_handshake(client.ssl());
  };
  EXPECT_EQ(Meet({.mostVersion = TLS1_2_VERSION}, renegotiate), "done");
  EXPECT_EQ(read_, "before");
  EXPECT_NE(renegotiated, 1);
}

}  // namespace
}  // namespace kveil::io
