// The agent's configuration: what its fields come to, and what only the reader can know to be wrong.
#include "config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"
#include "config/read_file.h"
#include "config/target_text.h"
#include "config/units.h"

namespace kveil::config {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Message(const std::string& text) { return std::string(ParseConfig(text, "c.json").status().message()); }

std::string TargetOf(const std::string& cidr, const std::string& ports) {
  return R"({"intercept": {"targets": [{"cluster": "main", "cidr": ")" + cidr + R"(", "ports": ")" + ports + R"("}]}})";
}

TEST(ConfigTest, EveryFieldArrives) {
  const absl::StatusOr<AgentConfig> config = ParseConfig(R"({
    "intercept": { "cgroup": "/cg", "targets": [ { "cluster": "east", "cidr": "192.168.7.0/24", "ports": "9092-9094,10" } ],
                   "listenPort": 4242, "whenDown": "bypass", "existing": "reset", "advertised": "report",
                   "pinDirectory": "/sys/fs/bpf/other" },
    "clusters": { "east": { "tls": { "ca": "/t/ca", "certificate": "/t/c", "key": "/t/k", "crl": "/t/crl",
                                     "serverNames": ["b1.example", ".example.org"], "identities": "/t/i",
                                     "minimumVersion": "1.3" } }, "west": {} },
    "keys": { "root": { "file": "/k/root" }, "registry": { "sqlite": "/k/db" }, "cacheTtl": "5m", "newUsersPerSecond": 6,
              "epochs": { "turnEvery": "24h" } },
    "policies": "/p", "admin": { "socket": "/s", "metrics": "[::1]:1234", "group": "ops", "eraseGroup": "privacy" }, "workers": 3,
    "limits": { "connections": 7, "receiveBuffers": 8, "requestSize": "1MiB", "responseSize": "2MiB", "batchSize": "3MiB",
                "batchUsers": 9,
                "totalMemory": "5MiB", "connectTimeout": "1s", "keyTimeout": "200ms",
                "stallTimeout": "3s", "idleTimeout": "4m", "drainTimeout": "0ms" },
    "log": { "level": "error", "format": "json" } })",
                                                         "c.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->intercept.cgroup, "/cg");
  ASSERT_EQ(config->intercept.targets.size(), 1u);
  const Target& target = config->intercept.targets[0];
  EXPECT_EQ(target.cluster, "east");
  EXPECT_EQ(target.CidrText(), "192.168.7.0/24");
  EXPECT_THAT(target.ports, ElementsAre(PortRange{10, 10}, PortRange{9092, 9094}));
  EXPECT_EQ(config->intercept.listenPort, 4242);
  EXPECT_EQ(config->intercept.whenDown, WhenDown::kBypass);
  EXPECT_EQ(config->intercept.existing, Existing::kReset);
  EXPECT_EQ(config->intercept.advertised, Advertised::kReport);
  EXPECT_EQ(config->intercept.pinDirectory, "/sys/fs/bpf/other");
  ASSERT_EQ(config->clusters.size(), 2u);
  ASSERT_TRUE(config->clusters[0].tls.has_value());
  EXPECT_FALSE(config->clusters[1].tls.has_value());
  const TlsConfig& tls = *config->clusters[0].tls;
  EXPECT_THAT((std::vector{tls.ca, tls.certificate, tls.key, tls.crl, tls.identities}),
              ElementsAre("/t/ca", "/t/c", "/t/k", "/t/crl", "/t/i"));
  EXPECT_THAT(tls.serverNames, ElementsAre("b1.example", ".example.org"));
  EXPECT_FALSE(tls.version12);
  EXPECT_EQ(config->keys.rootKeyFile, "/k/root");
  EXPECT_EQ(config->keys.registryPath, "/k/db");
  EXPECT_EQ(config->keys.cacheTtl, std::chrono::minutes(5));
  EXPECT_EQ(config->keys.newUsersPerSecond, 6u);
  EXPECT_EQ(config->keys.turnEpochsEvery, std::chrono::hours(24));
  EXPECT_EQ(config->policies.folder, "/p");
  EXPECT_EQ(config->admin.socket, "/s");
  EXPECT_EQ(config->admin.metrics->Text(), "[::1]:1234");
  EXPECT_EQ(config->admin.group, "ops");
  EXPECT_EQ(config->admin.eraseGroup, "privacy");
  EXPECT_EQ(config->workers, 3u);
  EXPECT_EQ(config->limits.connections, 7u);
  EXPECT_EQ(config->limits.receiveBuffers, 8u);
  EXPECT_EQ(config->limits.requestSize, size_t{1} << 20);
  EXPECT_EQ(config->limits.responseSize, size_t{2} << 20);
  EXPECT_EQ(config->limits.batchSize, size_t{3} << 20);
  EXPECT_EQ(config->limits.batchUsers, 9u);
  EXPECT_EQ(config->limits.totalMemory, size_t{5} << 20);
  EXPECT_EQ(config->limits.connectTimeout, milliseconds(1000));
  EXPECT_EQ(config->limits.keyTimeout, milliseconds(200));
  EXPECT_EQ(config->limits.stallTimeout, milliseconds(3000));
  EXPECT_EQ(config->limits.idleTimeout, std::chrono::minutes(4));
  EXPECT_EQ(config->limits.drainTimeout, milliseconds(0));
  EXPECT_EQ(config->logLevel, log::Level::kError);
  EXPECT_EQ(config->logLayout, log::Layout::kJson);
}

TEST(ConfigTest, ReadsARootKeyAtVault) {
  const auto read = [](const std::string& vault) {
    const absl::StatusOr<AgentConfig> config =
        ParseConfig(R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]},
                        "keys": {"root": {"vault": {"address": "https://v:8200", "key": "k", )" +
                        vault + "}}}}",
                    "c.json");
    EXPECT_TRUE(config.ok()) << config.status();
    if (!config.ok()) return VaultConfig();
    EXPECT_EQ(config->keys.rootKeyFile, "");
    return config->keys.rootKey.vault.value_or(VaultConfig());
  };
  using Auth = VaultConfig::Auth;
  const VaultConfig token = read(R"("tokenFile": "/t", "mount": "a/b", "namespace": "n", "ca": "/ca")");
  EXPECT_EQ(token.auth, Auth::kTokenFile);
  EXPECT_THAT((std::vector{token.address, token.mount, token.key, token.nameSpace, token.ca, token.secretFile}),
              ElementsAre("https://v:8200", "a/b", "k", "n", "/ca", "/t"));
  const VaultConfig appRole = read(R"("appRole": {"roleId": "r", "secretIdFile": "/s"})");
  EXPECT_EQ(appRole.auth, Auth::kAppRole);
  EXPECT_THAT((std::vector{appRole.mount, appRole.role, appRole.secretFile, appRole.authMount}),
              ElementsAre("transit", "r", "/s", "approle"));
  const VaultConfig kubernetes = read(R"("kubernetes": {"role": "r", "mount": "k8s"})");
  EXPECT_EQ(kubernetes.auth, Auth::kKubernetes);
  EXPECT_THAT((std::vector{kubernetes.role, kubernetes.secretFile, kubernetes.authMount}),
              ElementsAre("r", "/var/run/secrets/kubernetes.io/serviceaccount/token", "k8s"));
}

class KubernetesConfigTest : public ::testing::Test {
 protected:
  ~KubernetesConfigTest() override {
    for (const char* name : {"KVEIL_NODE_NAME", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}) ::unsetenv(name);
  }
  static std::string With(const std::string& members) {
    return R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "1"}]}, "kubernetes": {)" +
           members + "}}";
  }
};

TEST_F(KubernetesConfigTest, WhatItDoesNotSayIsWhereKubernetesHasIt) {
  ::setenv("KVEIL_NODE_NAME", "node-1.example", 1);
  ::setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  ::setenv("KUBERNETES_SERVICE_PORT", "443", 1);
  const absl::StatusOr<AgentConfig> config = ParseConfig(With(""), "c.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kubernetes->node, "node-1.example");
  EXPECT_EQ(config->kubernetes->apiServer, "https://[fd00::1]:443");
  EXPECT_EQ(config->kubernetes->tokenFile, "/var/run/secrets/kubernetes.io/serviceaccount/token");
  EXPECT_EQ(config->kubernetes->identityTimeout, milliseconds(3'000));
  const absl::StatusOr<AgentConfig> own = ParseConfig(
      With(R"("node": "n", "apiServer": "https://a", "startupTaint": "x/y", "identityTimeout": "1s")"), "c.json");
  ASSERT_TRUE(own.ok()) << own.status();
  EXPECT_EQ(own->kubernetes->node, "n");
  EXPECT_EQ(own->kubernetes->apiServer, "https://a");
  EXPECT_EQ(own->kubernetes->startupTaint, "x/y");
  EXPECT_EQ(own->kubernetes->identityTimeout, milliseconds(1'000));
}

TEST_F(KubernetesConfigTest, WhatIsNowhereIsMissing) {
  EXPECT_THAT(Message(With(R"("apiServer": "https://a")")),
              HasSubstr("/kubernetes: the node's name is missing: give \"node\", or KVEIL_NODE_NAME"));
  EXPECT_THAT(Message(With(R"("node": "a")")),
              HasSubstr("/kubernetes: the API server's address is missing: give \"apiServer\", or run in a pod"));
  ::setenv("KVEIL_NODE_NAME", "a b", 1);
  EXPECT_THAT(Message(With(R"("apiServer": "https://a")")), HasSubstr("the node's name is missing"));
  EXPECT_THAT(Message(With(R"("node": "a", "apiServer": "https://a", "identityTimeout": "61s")")),
              HasSubstr("/kubernetes/identityTimeout: expected"));
}

TEST(ConfigTest, AnAwsKeysRegionSaysWhereItsServicesAre) {
  const auto read = [](const std::string& members) {
    const absl::StatusOr<AgentConfig> config =
        ParseConfig(R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]},
                        "keys": {"root": {"awsKms": {)" +
                        members + "}}}}",
                    "c.json");
    EXPECT_TRUE(config.ok()) << config.status();
    if (!config.ok()) return AwsConfig();
    EXPECT_EQ(config->keys.rootKeyFile, "");
    return config->keys.rootKey.aws.value_or(AwsConfig());
  };
  const AwsConfig arn = read(R"("key": "arn:aws-eusc:kms:eusc-de-east-1:111122223333:alias/k")");
  EXPECT_THAT((std::vector{arn.key, arn.region, arn.endpoint, arn.stsEndpoint, arn.ca}),
              ElementsAre("arn:aws-eusc:kms:eusc-de-east-1:111122223333:alias/k", "eusc-de-east-1",
                          "https://kms.eusc-de-east-1.amazonaws.eu", "https://sts.eusc-de-east-1.amazonaws.eu", ""));
  const AwsConfig own =
      read(R"("key": "alias/k", "region": "us-east-1", "endpoint": "https://kms-fips.us-east-1.amazonaws.com",
              "ca": "/ca")");
  EXPECT_THAT((std::vector{own.key, own.region, own.endpoint, own.stsEndpoint, own.ca}),
              ElementsAre("alias/k", "us-east-1", "https://kms-fips.us-east-1.amazonaws.com",
                          "https://sts.us-east-1.amazonaws.com", "/ca"));
  for (const auto& [region, suffix] :
       {std::pair("cn-north-1", "amazonaws.com.cn"), std::pair("us-gov-west-1", "amazonaws.com"),
        std::pair("us-iso-east-1", "c2s.ic.gov"), std::pair("us-isob-east-1", "sc2s.sgov.gov")}) {
    EXPECT_EQ(read(std::string(R"("key": "alias/k", "region": ")") + region + "\"").endpoint,
              std::string("https://kms.") + region + "." + suffix);
  }
}

TEST(ConfigTest, AnAzureVaultsAddressSaysWhatTokensAreForAndWhoGivesThem) {
  const auto read = [](const std::string& vault, const std::string& more) {
    const absl::StatusOr<AgentConfig> config =
        ParseConfig(R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]},
                        "keys": {"root": {"azureKeyVault": {"key": "k", "managedIdentity": {}, "vault": ")" +
                        vault + "\"" + more + "}}}}",
                    "c.json");
    EXPECT_TRUE(config.ok()) << config.status();
    if (!config.ok()) return std::vector<std::string>();
    EXPECT_EQ(config->keys.rootKeyFile, "");
    const AzureConfig azure = config->keys.rootKey.azure.value_or(AzureConfig());
    return std::vector{azure.resource, azure.authority};
  };
  EXPECT_THAT(read("https://kveil.vault.azure.net", ""),
              ElementsAre("https://vault.azure.net", "https://login.microsoftonline.com"));
  EXPECT_THAT(read("https://kveil.managedhsm.azure.net:443", ""),
              ElementsAre("https://managedhsm.azure.net", "https://login.microsoftonline.com"));
  EXPECT_THAT(read("https://kveil.vault.azure.cn", ""),
              ElementsAre("https://vault.azure.cn", "https://login.partner.microsoftonline.cn"));
  EXPECT_THAT(read("https://kveil.vault.usgovcloudapi.net", R"(, "authority": "https://login.example")"),
              ElementsAre("https://vault.usgovcloudapi.net", "https://login.example"));
  EXPECT_THAT(read("https://evil-vault.azure.net", R"(, "resource": "https://r.example")"),
              ElementsAre("https://r.example", "https://login.microsoftonline.com"));
}

TEST(ConfigTest, ClustersLeftOutAreThoseOfTheTargets) {
  const absl::StatusOr<AgentConfig> config = ParseConfig(
      R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"},
                                    {"cluster": "b", "cidr": "11.0.0.0/8", "ports": "1"},
                                    {"cluster": "a", "cidr": "12.0.0.0/8", "ports": "1"}]}})",
      "c.json");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->clusters.size(), 2u);
  EXPECT_EQ(config->clusters[0].name, "a");
  EXPECT_EQ(config->clusters[1].name, "b");
}

TEST(ConfigTest, ClientTlsThatPassesIsWarnedOfByCluster) {
  const auto warning = [](const std::string& clusters) {
    const auto config =
        ParseConfig(R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]},
                                       "clusters": {)" +
                        clusters + "}}",
                    "c.json");
    return config.ok() ? WarningOfPassedTls(config->clusters) : config.status().ToString();
  };
  EXPECT_EQ(warning(R"("a": {}, "b": {"clientTls": "refuse"})"), "");
  EXPECT_THAT(warning(R"("a": {"clientTls": "pass"}, "b": {}, "c": {"clientTls": "pass"})"),
              HasSubstr("clientTls is \"pass\" for a, c: records"));
}

TEST(ConfigTest, TargetOfAClusterThatIsNotListedIsRefused) {
  EXPECT_EQ(Message(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "1"}]},
                        "clusters": {"mian": {}}})"),
            "c.json: /intercept/targets/0/cluster: expected a name that /clusters has, found \"main\"");
}

TEST(ConfigTest, NetworksThatMeanSomethingElseAreRefused) {
  EXPECT_THAT(Message(TargetOf("10.1.2.3/8", "1")), HasSubstr("that is \"10.0.0.0/8\", found \"10.1.2.3/8\""));
  EXPECT_THAT(Message(TargetOf("10.0.0.0/33", "1")), HasSubstr("expected a network such as"));
  EXPECT_THAT(Message(TargetOf("fd00::1/64", "1")), HasSubstr("that is \"fd00::/64\""));
  EXPECT_THAT(Message(TargetOf("::ffff:10.0.0.0/104", "1")), HasSubstr("an IPv4 network written as such"));
  EXPECT_THAT(Message(TargetOf("999.0.0.0/8", "1")), HasSubstr("expected a network such as"));
  EXPECT_EQ(Message(TargetOf("0.0.0.0/0", "1")), "");
}

TEST(ConfigTest, PortsOutOfRangeOrOrderAreRefused) {
  EXPECT_THAT(Message(TargetOf("10.0.0.0/8", "0")), HasSubstr("expected ports such as"));
  EXPECT_THAT(Message(TargetOf("10.0.0.0/8", "65536")), HasSubstr("expected ports such as"));
  EXPECT_THAT(Message(TargetOf("10.0.0.0/8", "9094-9092")), HasSubstr("expected ports such as"));
  EXPECT_THAT(Message(TargetOf("10.0.0.0/8", "1,3,5,7,9,11,13,15,17")), HasSubstr("at most 8 port ranges"));
}

TEST(ConfigTest, PortRangesThatTouchAreJoined) {
  EXPECT_THAT(*ParsePorts("9094,9092-9093,1-2,2-4"), ElementsAre(PortRange{1, 4}, PortRange{9092, 9094}));
  EXPECT_THAT(*ParsePorts("65535,1"), ElementsAre(PortRange{1, 1}, PortRange{65535, 65535}));
}

TEST(ConfigTest, TheSameNetworkTwiceIsRefused) {
  EXPECT_EQ(Message(R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"},
                                                  {"cluster": "a", "cidr": "10.0.0.0/8", "ports": "2"}]}})"),
            "c.json: /intercept/targets/1: the network 10.0.0.0/8 is target 0 already");
}

// Where the agent can write, and where it outlives the agent.
TEST(ConfigTest, SignedPoliciesAreRememberedBesideTheKeys) {
  const auto config = ParseConfig(
      R"({"intercept": {"targets": [{"cluster": "a", "cidr": "192.0.2.1", "ports": "1"}]}, "policies": {"folder": "p", "trustedKeys": ["a.pub"],
      "minimumVersion": 7}, "keys": {"registry": {"sqlite": "/k/db"}}})",
      "/etc/kveil/agent.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->policies.folder, "/etc/kveil/p");
  EXPECT_THAT(config->policies.trustedKeys, ElementsAre("/etc/kveil/a.pub"));
  EXPECT_EQ(config->policies.minimumVersion, 7);
  EXPECT_EQ(AcceptedPoliciesFile(config->keys), "/k/policies.accepted");
  EXPECT_EQ(AcceptedPoliciesFile(KeysConfig()), "/var/lib/kveil/policies.accepted");
}

// It may be that only the state can be written. A key that is pulled with the policies would be worth nothing.
TEST(ConfigTest, PulledPoliciesHaveAFolderBesideTheKeys) {
  const auto parse = [](const std::string& key) {
    return ParseConfig(
        R"({"intercept": {"targets": [{"cluster": "a", "cidr": "192.0.2.1", "ports": "1"}]},
      "policies": {"trustedKeys": [")" +
            key + R"("], "pull": {"url": "https://policies.example/p"}}, "keys": {"registry": {"sqlite": "/k/db"}}})",
        "/etc/kveil/agent.json");
  };
  const auto config = parse("a.pub");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->policies.folder, "/k/policies.pulled");
  ASSERT_TRUE(config->policies.pull.has_value());
  EXPECT_EQ(config->policies.pull->url, "https://policies.example/p");
  EXPECT_EQ(config->policies.pull->interval, std::chrono::seconds(60));
  EXPECT_EQ(config->policies.pull->maxSize, size_t{16} << 20);
  EXPECT_THAT(std::string(parse("/k/policies.pulled/a.pub").status().message()),
              testing::HasSubstr("expected files outside of /k/policies.pulled"));
  for (const auto& [member, refusal] : {std::pair{R"("interval": "4s")", "/policies/pull/interval: expected"},
                                        std::pair{R"("interval": "25h")", "/policies/pull/interval: expected"},
                                        std::pair{R"("maxSize": "65MiB")", "/policies/pull/maxSize: expected"},
                                        std::pair{R"("maxSize": "1KiB")", "/policies/pull/maxSize: expected"}}) {
    const std::string text = StrCat(R"({"intercept": {"targets": [{"cluster": "a", "cidr": "192.0.2.1", "ports": "1"}]},
        "policies": {"trustedKeys": ["a.pub"], "pull": {"url": "https://policies.example/p", )",
                                    member, "}}}");
    EXPECT_THAT(std::string(ParseConfig(text, "c.json").status().message()), testing::HasSubstr(refusal));
  }
}

// Whoever may write the folder may write names without end.
TEST(ConfigTest, FoldersHaveABound) {
  std::string folder = ::testing::TempDir() + "kveil-folder-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  for (const char* name : {"a.json", "b.json", ".hidden", "other"}) std::ofstream(PathIn(folder, name)) << "{}";
  EXPECT_THAT(FilesOfFolder(folder, ".json", 4).value(), ElementsAre(folder + "/a.json", folder + "/b.json"));
  EXPECT_EQ(std::string(FilesOfFolder(folder, ".json", 3).status().message()),
            folder + ": expected at most 3 files in the folder");
  std::filesystem::remove_all(folder);
}

TEST(ConfigTest, TrustedKeysAreNotInThePoliciesFolder) {
  const auto message = [](const std::string& key) {
    return Message(
        R"({"intercept": {"targets": [{"cluster": "a", "cidr": "192.0.2.1", "ports": "1"}]}, "policies": {"folder": "/p/", "trustedKeys": [")" +
        key + "\"]}}");
  };
  for (const char* key : {"/p/a.pub", "/p//b/../a.pub", "/q/../p/a.pub"}) {
    EXPECT_THAT(message(key),
                HasSubstr("/policies/trustedKeys: expected files outside of /p/, found " + std::string(key)));
  }
  for (const char* key : {"/p.pub", "/q/a.pub", "/p/../a.pub"}) EXPECT_EQ(message(key), "") << key;
}

TEST(ConfigTest, DurationsAndSizesOutOfRangeAreRefused) {
  const std::string start = R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]}, )";
  EXPECT_THAT(Message(start + R"("keys": {"cacheTtl": "2h"}})"),
              HasSubstr("(ms, s, m, h) from 1s to 1h, found \"2h\""));
  for (const char* every : {"59m", "8785h"}) {
    EXPECT_THAT(Message(start + R"("keys": {"epochs": {"turnEvery": ")" + every + R"("}}})"),
                HasSubstr("/keys/epochs/turnEvery: expected"));
  }
  EXPECT_THAT(Message(start + R"("keys": {"cacheTtl": "0s"}})"), HasSubstr("from 1s to 1h, found \"0s\""));
  EXPECT_THAT(Message(start + R"("limits": {"requestSize": "1KiB"}})"),
              HasSubstr("from 1MiB to 256MiB, found \"1KiB\""));
}

TEST(ConfigTest, MemoryThatCannotHoldOneFrameIsRefused) {
  const std::string start = R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]}, )";
  EXPECT_THAT(Message(start + R"("limits": {"totalMemory": "64MiB"}})"),
              HasSubstr("/limits: expected totalMemory to be at least requestSize and responseSize"));
}

TEST(ConfigTest, SeveralErrorsAreOneLineWithTheirNumber) {
  EXPECT_EQ(Message(R"({"intercept": {"targets": []}, "workers": -1, "policies": 1})"),
            "c.json: /intercept/targets: expected at least one target (and 2 more)");
}

TEST(ConfigTest, MissingFileIsNotFoundByName) {
  const absl::Status status = LoadConfig("/nonexistent/agent.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/agent.json"));
}

TEST(UnitsTest, DurationsAndSizesGoBothWays) {
  EXPECT_EQ(ParseDuration("500ms"), milliseconds(500));
  EXPECT_EQ(ParseDuration("60s"), milliseconds(60000));
  EXPECT_EQ(ParseDuration("999999999h"), milliseconds(999999999LL * 3600000));
  for (const char* bad : {"", "s", "5", "5 s", "-5s", "+5s", "5S", "0x5s", "9999999999s", "5ss"}) {
    EXPECT_EQ(ParseDuration(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(FormatDuration(milliseconds(90000)), "90s");
  EXPECT_EQ(FormatDuration(milliseconds(0)), "0ms");
  EXPECT_EQ(FormatDuration(std::chrono::hours(2)), "2h");
  EXPECT_EQ(ParseSize("64KiB"), 65536u);
  EXPECT_EQ(ParseSize("64kb"), std::nullopt);
  EXPECT_EQ(FormatSize(size_t{3} << 20), "3MiB");
}

TEST(ConfigTest, TheTopicOfTheAuditTrailSendsNoPasswordInClearText) {
  const auto read = [](const std::string& clusters, const std::string& members) {
    return ParseConfig(
        StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]},)",
               R"("clusters": {"main": {)", clusters, R"(}}, "audit": {"topic": {"topic": "a", "bootstrapServers": )",
               R"(["b:1"], "cluster": "main", "sasl": {"mechanism": "PLAIN", "username": "u", "passwordFile": "/p"})",
               members, "}}}"),
        "a.json");
  };
  const auto taken = read(R"("tls": {"ca": "/ca"})", "");
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->audit.topic->client.tls->ca, "/ca");
  EXPECT_EQ(taken->audit.topic->topic, "a");
  EXPECT_NE(std::string(read("", "").status().message()).find("/audit/topic: expected tls beside"), std::string::npos);
}

// What the schema cannot say.
TEST(ConfigTest, ConsentTopicsHaveAKeyspaceEachAndSendNoPasswordInClearText) {
  const auto read = [](const std::string& clusters, const std::string& topics) {
    return ParseConfig(
        StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]},)",
               R"("clusters": {"main": {)", clusters, R"(}}, "consentTopics": [)", topics, "]}"),
        "a.json");
  };
  const auto topic = [](const std::string& members) {
    return StrCat(R"({"keyspace": "k", "topic": "t", "bootstrapServers": ["b:1"])", members, "}");
  };
  const std::string plain = R"(, "sasl": {"mechanism": "PLAIN", "username": "u", "passwordFile": "/p"})";
  const std::string ofMain = R"(, "cluster": "main")";
  const std::string tls = R"("tls": {"ca": "/ca", "certificate": "/c", "key": "/k"})";
  const auto taken = read(tls, topic(ofMain + plain));
  ASSERT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(taken->consentTopics.at(0).client.tls->ca, "/ca");
  EXPECT_EQ(taken->consentTopics.at(0).client.tls->key, "/k");
  EXPECT_EQ(taken->consentTopics.at(0).staleAfter, std::chrono::hours(1));
  EXPECT_FALSE(read("", topic(ofMain))->consentTopics.at(0).client.tls.has_value());
  const auto message = [](const auto& config) { return std::string(config.status().message()); };
  EXPECT_NE(message(read("", topic(ofMain + plain))).find("sends the password as it is"), std::string::npos);
  EXPECT_NE(message(read(tls, topic(plain))).find("sends the password as it is"), std::string::npos);
  EXPECT_NE(message(read(tls, topic(R"(, "cluster": "other")"))).find("found \"other\""), std::string::npos);
  EXPECT_NE(message(read("", topic("") + "," + topic(""))).find("another topic feeds this keyspace already"),
            std::string::npos);
}

}  // namespace
}  // namespace kveil::config
