// Which certificates and names count for a connection, and what becomes of files that change.
#include "tls/cluster_tls.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <thread>

#include "../io/certificates.h"
#include "../io/harness.h"
#include "../io/tls_server.h"
#include "io/tls_files.h"

namespace kveil::tls {
namespace {

using testing::HasSubstr;

class ClusterTlsTest : public testing::Test {
 protected:
  ClusterTlsTest() {
    const io::TestCertificate own = authority_.Issue("agent", "DNS:agent");
    cluster_.name = "main";
    cluster_.tls.emplace();
    cluster_.tls->ca = authority_.path();
    cluster_.tls->certificate = own.certificate;
    cluster_.tls->key = own.key;
    workload_.cgroupPath = "/system.slice/a.service";
  }

  absl::Status Load() {
    auto loaded = ClusterTls::Load({cluster_, {.name = "plain", .tls = std::nullopt}});
    if (!loaded.ok()) return loaded.status();
    tls_ = *std::move(loaded);
    return absl::OkStatus();
  }
  absl::Status NewSession(const std::string& unit = "") {
    workload_.unit = unit;
    return SessionOf(workload_).status();
  }
  absl::StatusOr<std::unique_ptr<io::TlsSession>> SessionOf(const identity::Workload& workload,
                                                            const std::vector<std::string>& advertisedNames = {}) {
    return tls_->NewSession(clusterName_, broker_, workload, advertisedNames);
  }
  // Makes the folder of the workloads' certificates, and loads.
  void LoadWithIdentities(std::chrono::milliseconds unused = std::chrono::minutes(10)) {
    cluster_.tls->identities = authority_.folder() + "/identities";
    std::filesystem::create_directory(cluster_.tls->identities);
    auto loaded = ClusterTls::Load({cluster_}, unused);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tls_ = *std::move(loaded);
  }
  std::string Own(const std::string& file) const { return cluster_.tls->identities + "/" + file; }
  void IssueOwn(const std::string& unit, const std::string& subject = "CN=own") {
    const io::TestCertificate issued = authority_.Issue("own", "", 3600, subject);
    for (const auto& [from, ending] : {std::pair(issued.certificate, ".crt"), std::pair(issued.key, ".key")}) {
      std::filesystem::copy_file(from, Own(unit + ending), std::filesystem::copy_options::overwrite_existing);
    }
  }
  // Connects to a broker with a certificate of these names. "accepted as NAME", where NAME is what the greeting sent;
  // or why not.
  std::string Greet(const std::string& certificateNames, const std::vector<std::string>& advertisedNames) {
    io::TlsServer server({.certificate = authority_.Issue("broker", certificateNames), .clientCa = ""});
    auto session = SessionOf(workload_, advertisedNames);
    EXPECT_TRUE(session.ok()) << session.status();
    std::string sentName;
    const auto done = Handshake(**session, server, [&](io::TlsServer::Connection& connection) {
      const char* const name = SSL_get_servername(connection.ssl(), TLSEXT_NAMETYPE_host_name);
      sentName = name != nullptr ? name : "nobody";
    });
    return done.ok() ? StrCat("accepted as ", sentName) : std::string(done.status().message());
  }
  // The subject of the certificate that a broker is shown for an application that has shown one of `application`; or
  // why there is none.
  std::string Shown(const io::TlsOwner& application) {
    auto session = tls_->NewSession(clusterName_, broker_, workload_, {}, application);
    if (!session.ok()) return std::string(session.status().message());
    io::TlsServer server({.certificate = authority_.Issue("broker", "IP:10.0.0.1"), .clientCa = authority_.path()});
    std::string subject;
    const auto done = Handshake(**session, server, [&](io::TlsServer::Connection& connection) {
      subject = io::SubjectText(SSL_get0_peer_certificate(connection.ssl()));
    });
    return done.ok() ? subject : std::string(done.status().message());
  }
  // The end of the agent's handshake with a broker that then does `serve`.
  static absl::StatusOr<bool> Handshake(io::TlsSession& session, io::TlsServer& server,
                                        const std::function<void(io::TlsServer::Connection&)>& serve) {
    io::Pair pair = io::TcpPair();
    const auto broker = server.Accept(std::move(pair.far), serve);
    absl::StatusOr<bool> done;
    while ((done = session.Handshake()).ok()) {
      const ByteBuffer output = std::exchange(session.output(), ByteBuffer());
      (void)!::send(pair.near.get(), output.data(), output.size(), MSG_NOSIGNAL);
      if (*done) break;
      std::array<uint8_t, 16384> input;
      const ssize_t size = ::recv(pair.near.get(), input.data(), input.size(), 0);
      session.Feed(Bytes(input).first(static_cast<size_t>(std::max<ssize_t>(size, 0))));
      session.KeepInput();
    }
    pair.near.Reset();
    broker->Join();
    return done;
  }
  static void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

  io::TestAuthority authority_;
  config::ClusterConfig cluster_;
  std::string clusterName_ = "main";
  SocketAddress broker_ = *SocketAddress::Parse("10.0.0.1", 9093);
  identity::Workload workload_;
  std::unique_ptr<ClusterTls> tls_;
};

TEST_F(ClusterTlsTest, AClusterWithoutTlsIsReachedInPlainTcp) {
  ASSERT_TRUE(Load().ok());
  clusterName_ = "plain";
  const auto session = SessionOf(workload_);
  ASSERT_TRUE(session.ok());
  EXPECT_EQ(*session, nullptr);
  clusterName_ = "main";
  EXPECT_NE(*SessionOf(workload_), nullptr);
}

TEST_F(ClusterTlsTest, ABrokerNeedsANameThatItIsAdvertisedUnderOrItsAddress) {
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(Greet("DNS:b1.example", {"b1.example"}), "accepted as b1.example");
  EXPECT_THAT(Greet("DNS:b1.example", {"b2.example"}), HasSubstr("hostname mismatch"));
  EXPECT_EQ(Greet("DNS:b1.example", {"b9.example", "b1.example"}), "accepted as b9.example") << "it is being renamed";
  EXPECT_EQ(Greet("IP:10.0.0.1", {"b1.example"}), "accepted as b1.example");
  EXPECT_THAT(Greet("IP:10.0.0.2", {"b1.example"}), HasSubstr("hostname mismatch"));
}

TEST_F(ClusterTlsTest, ABrokerThatIsNotAdvertisedByNameNeedsItsAddress) {
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(Greet("IP:10.0.0.1", {}), "accepted as nobody");
  EXPECT_THAT(Greet("DNS:b1.example", {}), HasSubstr("IP address mismatch"));
}

TEST_F(ClusterTlsTest, ConfiguredNamesCountInsteadOfTheAdvertisedOneWhichIsStillSent) {
  cluster_.tls->serverNames = {"b1.example"};
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(Greet("DNS:b1.example", {}), "accepted as b1.example");
  EXPECT_EQ(Greet("DNS:b1.example", {"b9.example"}), "accepted as b9.example");
  EXPECT_THAT(Greet("DNS:b9.example", {"b9.example"}), HasSubstr("hostname mismatch"));
  EXPECT_THAT(Greet("IP:10.0.0.1", {}), HasSubstr("hostname mismatch"));
  cluster_.tls->serverNames = {".example"};
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(Greet("DNS:b1.example", {}), "accepted as nobody");
}

TEST_F(ClusterTlsTest, AnApplicationThatNamesItselfIsShownToTheBrokerAsThatOrRefused) {
  LoadWithIdentities();
  IssueOwn("CN=orders", "CN=orders,OU=prod");
  IssueOwn("a.service", "CN=a.service");
  workload_.unit = "a.service";
  EXPECT_EQ(Shown({.subject = "OU=prod,CN=orders", .commonName = "orders"}), "OU=prod,CN=orders");
  EXPECT_EQ(Shown({}), "CN=a.service") << "it names nobody: the workload's own";
  EXPECT_EQ(Shown({.subject = "OU=dev,CN=orders", .commonName = "orders"}),
            StrCat("TLS of cluster main: the application has shown a certificate of OU=dev,CN=orders, but ",
                   Own("CN=orders.crt"), " is of OU=prod,CN=orders"));
  EXPECT_EQ(Shown({.subject = "CN=other", .commonName = "other"}),
            StrCat("TLS of cluster main: the application has shown a certificate of CN=other, but there is no ",
                   Own("CN=other.crt"), " to show to the broker"));
  std::filesystem::create_directory(Own("CN=x"));
  for (const std::string name : {"", "x/../a.service", "CN=orders", "ord ers", "a,b"}) {
    EXPECT_THAT(Shown({.subject = StrCat("CN=", name), .commonName = name}), HasSubstr("its common name cannot be"));
  }
  EXPECT_THAT(Shown({.subject = "CN=long", .commonName = std::string(65, 'a')}), HasSubstr("it needs exactly one"));
  std::filesystem::remove(Own("CN=orders.crt"));
  for (const std::string unit : {"a.service", ""}) {
    workload_.unit = unit;
    tls_->LookAgain();
    EXPECT_THAT(Shown({.subject = "OU=prod,CN=orders", .commonName = "orders"}), HasSubstr("there is no "));
  }
  EXPECT_EQ(Shown({}), "CN=agent");
}

TEST_F(ClusterTlsTest, WithoutIdentitiesEverybodyIsTheAgent) {
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(Shown({.subject = "CN=orders", .commonName = "orders"}), "CN=agent");
}

TEST_F(ClusterTlsTest, FilesThatCannotBeUsedEndTheStartWithClusterAndFile) {
  cluster_.tls->ca = "/nowhere/ca.pem";
  const absl::Status status = Load();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("TLS of cluster main: /nowhere/ca.pem: "));
}

TEST_F(ClusterTlsTest, AChangedFileThatCannotBeUsedIsAProblemAndTheFormerStaysInForce) {
  ASSERT_TRUE(Load().ok());
  const std::string certificate = cluster_.tls->certificate;
  Write(certificate, "nothing");
  EXPECT_TRUE(NewSession().ok());
  EXPECT_TRUE(tls_->Health().ok()) << "a connection reads no files";
  tls_->LookAgain();
  EXPECT_TRUE(NewSession().ok());
  EXPECT_THAT(std::string(tls_->Health().message()), HasSubstr(certificate));
  authority_.Issue("agent", "DNS:agent");
  tls_->LookAgain();
  EXPECT_TRUE(NewSession().ok());
  EXPECT_TRUE(tls_->Health().ok()) << tls_->Health();
}

TEST_F(ClusterTlsTest, AChangedFileIsReadAgainUntilItCanBe) {
  ASSERT_TRUE(Load().ok());
  authority_.Issue("agent", "DNS:agent");
  rlimit before;
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none = {0, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);  // no file can be opened
  tls_->LookAgain();
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_FALSE(tls_->Health().ok());
  tls_->LookAgain();
  EXPECT_TRUE(tls_->Health().ok()) << tls_->Health();
}

TEST_F(ClusterTlsTest, AWorkloadWithFilesOfItsOwnUsesThem) {
  LoadWithIdentities();
  EXPECT_TRUE(NewSession("orders.service").ok()) << "it has none: the agent's";
  Write(Own("orders.service.crt"), "nothing");
  EXPECT_THAT(std::string(NewSession("orders.service").message()), HasSubstr(Own("orders.service.crt")));
  EXPECT_TRUE(NewSession("other.service").ok());
  IssueOwn("orders.service");
  EXPECT_FALSE(NewSession("orders.service").ok()) << "what cannot be used is not read at each connection";
  EXPECT_THAT(std::string(tls_->Health().message()), HasSubstr(Own("orders.service.crt")));
  tls_->LookAgain();
  EXPECT_TRUE(NewSession("orders.service").ok());
  EXPECT_TRUE(tls_->Health().ok()) << tls_->Health();
}

TEST_F(ClusterTlsTest, AWorkloadShowsTheAgentsCertificateOnlyWhenItSurelyHasNoneOfItsOwn) {
  LoadWithIdentities();
  std::filesystem::create_symlink("loop.service.crt", Own("loop.service.crt"));
  EXPECT_THAT(std::string(NewSession("loop.service").message()), HasSubstr("loop.service.crt: Too many levels"));
  EXPECT_TRUE(NewSession("").ok()) << "a cgroup that is in no unit";
  workload_.cgroupPath = "";
  EXPECT_THAT(std::string(NewSession("").message()), HasSubstr("which workload this is"));
  workload_.cgroupPath = "/system.slice/a.service";
  std::filesystem::remove_all(cluster_.tls->identities);
  EXPECT_THAT(std::string(NewSession("a.service").message()), HasSubstr(cluster_.tls->identities + ": No such file"));
}

TEST_F(ClusterTlsTest, TheFolderOfCertificatesMustBeThereAtTheStart) {
  cluster_.tls->identities = "/nowhere/identities";
  EXPECT_THAT(std::string(Load().message()), HasSubstr("TLS of cluster main: /nowhere/identities: No such file"));
  cluster_.tls->identities = cluster_.tls->ca;
  EXPECT_THAT(std::string(Load().message()), HasSubstr("ca.pem: is no folder"));
}

TEST_F(ClusterTlsTest, WhatIsWrongWithACertificateIsForgottenWithIt) {
  LoadWithIdentities();
  for (const char* unit : {"gone.service", "unused.service"}) {
    Write(Own(StrCat(unit, ".crt")), "nothing");
    EXPECT_FALSE(NewSession(unit).ok());
  }
  std::filesystem::remove(Own("gone.service.crt"));
  tls_->LookAgain();
  EXPECT_TRUE(NewSession("gone.service").ok()) << "it has none any more: the agent's";
  EXPECT_THAT(std::string(tls_->Health().message()), HasSubstr("unused.service.crt"));

  LoadWithIdentities(/*unused=*/std::chrono::milliseconds(0));
  EXPECT_FALSE(NewSession("unused.service").ok());
  EXPECT_FALSE(tls_->Health().ok());
  tls_->LookAgain();
  EXPECT_TRUE(tls_->Health().ok()) << tls_->Health();
}

TEST_F(ClusterTlsTest, FilesThatTakeLongHoldUpNobodyElse) {
  LoadWithIdentities();
  IssueOwn("quick.service");
  ASSERT_EQ(::mkfifo(Own("slow.service.crt").c_str(), 0600), 0);  // nothing can be read until somebody writes
  identity::Workload slow = workload_;
  slow.unit = "slow.service";
  std::thread reading([&] { EXPECT_FALSE(SessionOf(slow).ok()); });
  int writer = -1;  // can be opened once it is being read
  for (int i = 0; i < 20'000 && writer < 0; ++i) {
    ::usleep(1000);
    writer = ::open(Own("slow.service.crt").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  }
  EXPECT_GE(writer, 0) << "nobody reads it";
  EXPECT_TRUE(NewSession("quick.service").ok());
  EXPECT_TRUE(NewSession().ok());
  EXPECT_TRUE(tls_->Health().ok());
  ::close(writer);
  reading.join();
}

}  // namespace
}  // namespace kveil::tls
