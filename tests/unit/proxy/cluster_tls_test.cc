// Which certificates and names count for a connection, and what becomes of files that change.
#include "proxy/cluster_tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "../io/certificates.h"

namespace kveil::proxy {
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
    connection_.cluster = "main";
    connection_.broker = *SocketAddress::Parse("10.0.0.1", 9093);
  }

  absl::Status Load() {
    auto loaded = ClusterTls::Load({cluster_, {.name = "plain", .tls = std::nullopt}});
    if (!loaded.ok()) return loaded.status();
    tls_ = *std::move(loaded);
    return absl::OkStatus();
  }
  absl::Status NewSession(const std::string& unit = "", std::string_view advertisedName = "") {
    connection_.workload.unit = unit;
    return tls_->NewSession(connection_, advertisedName).status();
  }
  // Files are looked at again after a second.
  absl::Status NewSessionLater(const std::string& unit = "") {
    ::usleep(1'050'000);
    return NewSession(unit);
  }
  static void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

  io::TestAuthority authority_;
  policy::ClusterConfig cluster_;
  ConnectionInfo connection_;
  std::unique_ptr<ClusterTls> tls_;
};

TEST_F(ClusterTlsTest, AClusterWithoutTlsIsReachedInPlainTcp) {
  ASSERT_TRUE(Load().ok());
  connection_.cluster = "plain";
  const auto session = tls_->NewSession(connection_, "");
  ASSERT_TRUE(session.ok());
  EXPECT_EQ(*session, nullptr);
  connection_.cluster = "main";
  EXPECT_NE(*tls_->NewSession(connection_, ""), nullptr);
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
  EXPECT_TRUE(tls_->Health().ok()) << "looked at too often";
  EXPECT_TRUE(NewSessionLater().ok());
  EXPECT_THAT(std::string(tls_->Health().message()), HasSubstr(certificate));
  authority_.Issue("agent", "DNS:agent");
  EXPECT_TRUE(NewSessionLater().ok());
  EXPECT_TRUE(tls_->Health().ok()) << tls_->Health();
}

TEST_F(ClusterTlsTest, AWorkloadWithFilesOfItsOwnUsesThem) {
  cluster_.tls->identities = authority_.folder() + "/identities";
  std::filesystem::create_directory(cluster_.tls->identities);
  ASSERT_TRUE(Load().ok());
  EXPECT_TRUE(NewSession("orders.service").ok()) << "it has none: the agent's";
  const std::string own = cluster_.tls->identities + "/orders.service";
  Write(own + ".crt", "nothing");
  EXPECT_THAT(std::string(NewSession("orders.service").message()), HasSubstr(own + ".crt"));
  EXPECT_TRUE(NewSession("other.service").ok());
  EXPECT_TRUE(tls_->Health().ok()) << "each refused connection says it";
  const io::TestCertificate issued = authority_.Issue("orders", "");
  std::filesystem::copy_file(issued.certificate, own + ".crt", std::filesystem::copy_options::overwrite_existing);
  std::filesystem::copy_file(issued.key, own + ".key");
  EXPECT_TRUE(NewSession("orders.service").ok());
}

}  // namespace
}  // namespace kveil::proxy
