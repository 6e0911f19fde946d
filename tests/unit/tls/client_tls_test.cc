// Which certificates stand for the brokers, and what becomes of files that change.
#include "tls/client_tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "../io/certificates.h"
#include "../io/harness.h"
#include "../io/tls_client.h"

namespace kveil::tls {
namespace {

using testing::HasSubstr;
using Mode = config::ClientTlsConfig::Mode;

class ClientTlsTest : public testing::Test {
 protected:
  ClientTlsTest() {
    folder_ = authority_.folder() + "/front";
    std::filesystem::create_directory(folder_);
    cluster_.name = "main";
    cluster_.clientTls.mode = Mode::kTerminate;
    cluster_.clientTls.folder = folder_;
  }
  // NAME.crt and NAME.key in the folder.
  void Issue(const std::string& name, const std::string& names, long seconds = 3600) {
    const io::TestCertificate issued = authority_.Issue("issued", names, seconds);
    std::filesystem::rename(issued.certificate, folder_ + "/" + name + ".crt");
    std::filesystem::permissions(issued.key, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    std::filesystem::rename(issued.key, folder_ + "/" + name + ".key");
  }
  std::string Load(std::chrono::milliseconds renewed = std::chrono::hours(1)) {
    auto loaded = ClientTls::Load({cluster_}, renewed);
    if (!loaded.ok()) return std::string(loaded.status().message());
    tls_ = *std::move(loaded);
    return "";
  }
  std::string Health() const { return std::string(tls_->Health().message()); }

  // One handshake with a client that asks for that name. Afterwards `client_` is the client; a session of it can be
  // resumed. Returns why it failed, or "".
  std::string Meet(const std::string& asked, const std::vector<std::string>& advertised = {},
                   SSL_SESSION* resumed = nullptr) {
    io::Pair pair = io::TcpPair();
    auto session = tls_->NewSession("main", *SocketAddress::Parse("10.0.0.1", 9093), advertised);
    if (!session.ok()) return std::string(session.status().message());
    client_ = std::make_unique<io::TlsClient>(
        std::move(pair.near), io::TlsClientOptions{.ca = authority_.path(), .sentName = asked, .resumed = resumed});
    std::string said;
    std::thread connecting([&] {
      said = client_->Connect();
      if (said.empty()) client_->Read(1);  // the ticket comes before it
      client_->End();
    });
    absl::StatusOr<bool> done;
    while ((done = (*session)->Handshake()).ok()) {
      if (*done) {
        EXPECT_TRUE((*session)->Write(AsBytes("!")).ok());
      }
      const ByteBuffer output = std::exchange((*session)->output(), ByteBuffer());
      (void)!::send(pair.far.get(), output.data(), output.size(), MSG_NOSIGNAL);
      if (*done) break;
      uint8_t input[16384];
      const ssize_t size = ::recv(pair.far.get(), input, sizeof(input), 0);
      (*session)->Feed(Bytes(input, static_cast<size_t>(std::max<ssize_t>(size, 0))));
      (*session)->KeepInput();
    }
    connecting.join();
    wasResumed_ = done.ok() && (*session)->resumed();
    return said;
  }
  // The first alternative name in the certificate that such a client is shown.
  std::string Shown(const std::string& asked, const std::vector<std::string>& advertised = {}) {
    if (const std::string failed = Meet(asked, advertised); !failed.empty()) return failed;
    auto* const names = static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(SSL_get0_peer_certificate(client_->ssl()), NID_subject_alt_name, nullptr, nullptr));
    const ASN1_IA5STRING* const name = sk_GENERAL_NAME_value(names, 0)->d.dNSName;
    std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name)),
                     static_cast<size_t>(ASN1_STRING_length(name)));
    GENERAL_NAMES_free(names);
    return text;
  }

  io::TestAuthority authority_;
  std::string folder_;
  config::ClusterConfig cluster_;
  std::unique_ptr<ClientTls> tls_;
  std::unique_ptr<io::TlsClient> client_;
  bool wasResumed_ = false;
};

TEST_F(ClientTlsTest, AFolderHasItsCertificatesInTheOrderOfTheirNames) {
  Issue("b", "DNS:b.example");
  Issue("a", "DNS:a.example");
  Issue(".hidden", "DNS:hidden.example");
  std::filesystem::copy_file(authority_.path(), folder_ + "/ca.crt");  // a Secret has the authority, too
  std::ofstream(folder_ + "/README") << "no certificate";
  ASSERT_EQ(Load(), "");
  EXPECT_EQ(Shown("b.example"), "b.example");
  EXPECT_EQ(Shown("hidden.example"), "a.example");
  EXPECT_EQ(Shown("", {"b.example"}), "b.example");
  EXPECT_EQ(Shown(""), "a.example");
}

TEST_F(ClientTlsTest, AListIsInItsOwnOrder) {
  Issue("a", "DNS:a.example");
  Issue("b", "DNS:b.example");
  cluster_.clientTls.folder = "";
  cluster_.clientTls.certificates = {{folder_ + "/b.crt", folder_ + "/b.key"},
                                     {folder_ + "/a.crt", folder_ + "/a.key"}};
  ASSERT_EQ(Load(), "");
  EXPECT_EQ(Shown(""), "b.example");
  EXPECT_EQ(Shown("a.example"), "a.example");
}

TEST_F(ClientTlsTest, WhatCannotBeUsedEndsTheStart) {
  EXPECT_EQ(Load(), StrCat("clientTls of cluster main: ", folder_,
                           ": no certificate with its key (NAME.crt, NAME.key) is in it"));
  cluster_.clientTls.folder = "/nowhere";
  EXPECT_THAT(Load(), HasSubstr("/nowhere: No such file"));
  cluster_.clientTls.folder = folder_;
  Issue("a", "DNS:a.example");
  std::filesystem::remove(folder_ + "/a.crt");
  EXPECT_THAT(Load(), HasSubstr("/a.crt: cannot be read"));
}

TEST_F(ClientTlsTest, OtherClustersTerminateNothing) {
  cluster_.clientTls = {};
  ASSERT_EQ(Load(), "");
  EXPECT_EQ(tls_->ModeOf("main"), Mode::kRefuse);
  EXPECT_EQ(tls_->ModeOf("unknown"), Mode::kRefuse);
  EXPECT_EQ(Shown(""), "cluster main does not terminate TLS");
}

TEST_F(ClientTlsTest, ChangedFilesTakeForceTogetherOrNotAtAll) {
  Issue("a", "DNS:old.example");
  ASSERT_EQ(Load(), "");
  Issue("a", "DNS:new.example");
  Issue("b", "DNS:b.example");
  std::filesystem::permissions(folder_ + "/b.key", std::filesystem::perms::others_read,
                               std::filesystem::perm_options::add);
  tls_->LookAgain();
  EXPECT_EQ(Shown(""), "old.example") << "one of them cannot be used";
  EXPECT_THAT(Health(), HasSubstr("b.key: others than its owner may use it"));
  std::filesystem::permissions(folder_ + "/b.key", std::filesystem::perms::others_read,
                               std::filesystem::perm_options::remove);
  tls_->LookAgain();
  EXPECT_EQ(Shown(""), "new.example");
  EXPECT_EQ(Shown("b.example"), "b.example");
  EXPECT_EQ(Health(), "");
  std::filesystem::remove_all(folder_);
  tls_->LookAgain();
  EXPECT_EQ(Shown(""), "new.example");
  EXPECT_THAT(Health(), HasSubstr("No such file"));
}

TEST_F(ClientTlsTest, KeysOfTicketsAreRenewedAfterATime) {
  Issue("a", "DNS:a.example");
  for (const bool isOver : {false, true}) {
    ASSERT_EQ(Load(isOver ? std::chrono::milliseconds(0) : std::chrono::hours(1)), "");
    ASSERT_EQ(Meet("a.example"), "");
    const std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> session(SSL_get1_session(client_->ssl()),
                                                                            SSL_SESSION_free);
    tls_->LookAgain();
    ASSERT_EQ(Meet("a.example", {}, session.get()), "");
    EXPECT_EQ(wasResumed_, !isOver);
  }
}

TEST_F(ClientTlsTest, KeysOfTicketsAreRenewedAlsoWhileAFileCannotBeUsed) {
  Issue("a", "DNS:a.example");
  for (const bool isOver : {false, true}) {
    ASSERT_EQ(Load(isOver ? std::chrono::milliseconds(0) : std::chrono::hours(1)), "");
    ASSERT_EQ(Meet("a.example"), "");
    const std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> session(SSL_get1_session(client_->ssl()),
                                                                            SSL_SESSION_free);
    std::ofstream(folder_ + "/b.key") << "no key";
    tls_->LookAgain();
    EXPECT_THAT(Health(), HasSubstr("/b."));
    ASSERT_EQ(Meet("a.example", {}, session.get()), "");
    EXPECT_EQ(wasResumed_, !isOver);
    std::filesystem::remove(folder_ + "/b.key");
  }
}

TEST_F(ClientTlsTest, AnExpiredCertificateIsAProblem) {
  Issue("a", "DNS:a.example");
  Issue("late", "DNS:late.example", -60);
  ASSERT_EQ(Load(), "") << "the others can be used";
  EXPECT_EQ(Health(), StrCat("clientTls of cluster main: ", folder_, "/late.crt: a certificate in it has expired"));
  EXPECT_EQ(Shown("a.example"), "a.example");
}

}  // namespace
}  // namespace kveil::tls
