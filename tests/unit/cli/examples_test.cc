// The examples that are shipped pass `kveil agent --check` and `kveil policy check`: agent.example.json as it lies in
// the repository, the others below /etc/kveil, with the TLS files that they name.
#include <gtest/gtest.h>

#include <sstream>

#include "../io/certificates.h"
#include "command_fixture.h"
#include "source_dir.h"

namespace kveil::cli {
namespace {

namespace files = std::filesystem;

class ExamplesTest : public CommandTest {
 protected:
  // What stands in for /etc/kveil.
  ExamplesTest() {
    files::copy(kExamples + "/examples", folder_ + "/policies");
    files::create_directories(folder_ + "/tls/identities");
    const io::TestCertificate certificate = authority_.Issue("agent", "");
    const io::TestCertificate front = authority_.Issue("broker", "DNS:kafka.example.com");
    files::create_directories(folder_ + "/front");
    files::copy(front.certificate, folder_ + "/front/broker.crt");
    files::copy(front.key, folder_ + "/front/broker.key");
    files::permissions(folder_ + "/front/broker.key", files::perms::owner_read | files::perms::owner_write);
    files::copy(authority_.path(), folder_ + "/tls/ca.pem");
    files::copy(certificate.certificate, folder_ + "/tls/agent.crt");
    files::copy(certificate.key, folder_ + "/tls/agent.key");
    files::copy(authority_.Revoke(false), folder_ + "/tls/crl.pem");
  }

  // The example's text with its paths changed to that folder.
  std::string Install(const files::path& example) {
    std::ostringstream text;
    text << std::ifstream(example).rdbuf();
    std::string installed = text.str();
    const std::string standard = "/etc/kveil";
    for (size_t at = installed.find(standard); at != std::string::npos; at = installed.find(standard, at + 1)) {
      installed.replace(at, standard.size(), folder_);
    }
    return Write("installed.json", installed);
  }

  const std::string kExamples = KVEIL_SOURCE_DIR "/policies";
  io::TestAuthority authority_;
};

TEST_F(ExamplesTest, ConfigurationsPassTheAgentsCheck) {
  size_t checked = 0;
  for (const auto& entry : files::directory_iterator(kExamples)) {
    const std::string name = entry.path().filename();
    if (!entry.is_regular_file() || name.ends_with(".schema.json")) continue;
    std::string config = name == "agent.example.json" ? entry.path().string() : Install(entry.path());
    if (name == "agent.minimal.json") {  // which leaves the folder to the default
      std::ostringstream text;
      text << std::ifstream(config).rdbuf();
      config = Write("minimal.json", "{ \"policies\": \"" + folder_ + "/policies\"," + text.str().substr(1));
    }
    const CommandResult result = Run({"agent", "--check", "--config", config});
    // Whether this machine can run an agent is another question.
    const bool isOnlyTheMachine = result.err.find("no agent can run on this machine") != std::string::npos;
    EXPECT_TRUE(result.exitStatus == 0 || isOnlyTheMachine) << name << ": " << result.err;
    EXPECT_NE(result.out.find(": good, with 12 policy files"), std::string::npos) << name << ": " << result.out;
    ++checked;
  }
  EXPECT_EQ(checked, 3u);
}

TEST_F(ExamplesTest, TheCheckReadsTheCertificatesThatStandForTheBrokers) {
  const std::string config = Install(kExamples + "/agent.tls.json");
  files::permissions(folder_ + "/front/broker.key", files::perms::others_read, files::perm_options::add);
  ExpectFailure(Run({"agent", "--check", "--config", config}), 1, "broker.key: others than its owner may use it");
}

TEST_F(ExamplesTest, TheCheckWarnsOfTlsThatIsPassed) {
  const std::string config =
      Write("passing.json", R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]},
                                "clusters": {"a": {"clientTls": "pass"}}, "policies": "policies"})");
  const CommandResult result = Run({"agent", "--check", "--config", config});
  EXPECT_NE(result.err.find("warning: clientTls is \"pass\" for a: "), std::string::npos) << result.err;
}

TEST_F(ExamplesTest, PoliciesPassTheirCheckAndProtectEveryTopic) {
  const CommandResult result = Run({"policy", "check", kExamples + "/examples"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.err, "") << "there is advice on an example";
  EXPECT_EQ(result.out.find("pass in clear text"), std::string::npos) << result.out;
}

// A table per example says who is to read what.
TEST_F(ExamplesTest, PoliciesSayWhatTheirTablesExpect) {
  size_t tables = 0;
  for (const auto& entry : files::directory_iterator(kExamples + "/examples")) {
    if (entry.path().extension() != ".json") continue;  // a list of users
    const std::string table = kExamples + "/tests/" + entry.path().stem().string() + ".test.json";
    const CommandResult result = Run({"policy", "test", table});
    EXPECT_EQ(result.exitStatus, 0) << result.out << result.err;
    ++tables;
  }
  EXPECT_EQ(tables, 12u);
}

}  // namespace
}  // namespace kveil::cli
