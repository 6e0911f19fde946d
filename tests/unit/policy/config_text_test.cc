// A configuration that is written out says everything, and is read back as the same.
#include "config/config_text.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "base/text.h"
#include "documents.h"

namespace kveil::policy {
namespace {

using Json = nlohmann::ordered_json;

Json Written(const std::string& text) {
  const absl::StatusOr<config::AgentConfig> config = config::ParseConfig(text, "c.json");
  return config.ok() ? config::ToJson(*config) : Json();
}

// Where values stand that are not objects.
std::set<std::string> Leaves(const Json& json, const std::string& pointer = "") {
  if (!json.is_object()) return {pointer};
  std::set<std::string> leaves;
  for (const auto& [key, value] : json.items()) leaves.merge(Leaves(value, StrCat(pointer, "/", key)));
  return leaves;
}

TEST(ConfigTextTest, IsAConfigurationItselfWithEveryFieldOfTheFile) {
  size_t written = 0;
  for (const Sample& sample : ConfigSamples()) {
    if (!sample.error.empty()) continue;
    ++written;
    const Json once = Written(sample.text);
    ASSERT_TRUE(once.is_object()) << sample.name;
    EXPECT_EQ(Written(once.dump()), once) << sample.name;
    const std::set<std::string> said = Leaves(once);
    for (const std::string& leaf : Leaves(Json::parse(sample.text))) {
      EXPECT_TRUE(leaf == "/$schema" || said.contains(leaf)) << sample.name << " lacks " << leaf;
    }
  }
  EXPECT_GT(written, 20u);
}

TEST(ConfigTextTest, SaysWhatTheDefaultsAre) {
  const Json json =
      Written(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.1.2.3", "ports": "2,1,5-6"}]}})");
  EXPECT_EQ(json["intercept"]["targets"][0],
            (Json{{"cluster", "main"}, {"cidr", "10.1.2.3/32"}, {"ports", "1-2,5-6"}}));
  EXPECT_EQ(json["keys"]["root"]["file"], "/var/lib/kveil/root.key");
  EXPECT_EQ(json["limits"]["totalMemory"], "1GiB");
  EXPECT_EQ(json["limits"]["idleTimeout"], "30m");
  EXPECT_EQ(json["admin"]["metrics"], "127.0.0.1:9464");
  EXPECT_EQ(json["clusters"], (Json{{"main", {{"clientTls", "refuse"}}}}));
}

TEST(ConfigTextTest, QuotesWhatPostgresIsAskedWith) {
  const std::string text = R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]},
      "keys": {"registry": {"postgres": "host=a,b hostaddr=10.0.0.1,10.0.0.2 dbname='it\\'s \\\\ one' user=u"}}})";
  const Json json = Written(text);
  EXPECT_EQ(
      json["keys"]["registry"]["postgres"],
      R"(host='a,b' port='5432,5432' hostaddr='10.0.0.1,10.0.0.2' user='u' dbname='it\'s \\ one' sslmode='verify-full')");
  EXPECT_EQ(Written(json.dump()), json);
}

TEST(ConfigTextTest, FindsFilesBesideTheConfigurationAndAmongTheCredentials) {
  const std::string text = R"({"intercept": {"targets": [{"cluster": "a", "cidr": "10.0.0.0/8", "ports": "1"}]},
      "policies": "sub/../policies", "keys": {"root": {"file": "${CREDENTIALS_DIRECTORY}/root.key"}, "registry":
      {"postgres": "host=/run/pg dbname=d user=u passfile=${CREDENTIALS_DIRECTORY}/pgpass"}}})";
  const absl::StatusOr<config::AgentConfig> config = config::ParseConfig(text, "/etc/kveil/agent.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->policies.folder, "/etc/kveil/policies");
  EXPECT_EQ(config->keys.rootKeyFile, "/run/credentials/kveil.service/root.key");
  ::setenv("CREDENTIALS_DIRECTORY", "/run/credentials/other", 1);
  const Json elsewhere = config::ToJson(*config::ParseConfig(text, "/etc/kveil/agent.json"));
  ::unsetenv("CREDENTIALS_DIRECTORY");
  EXPECT_EQ(elsewhere["keys"]["root"]["file"], "/run/credentials/other/root.key");
  EXPECT_EQ(elsewhere["keys"]["registry"]["postgres"],
            "host='/run/pg' port='5432' user='u' passfile='/run/credentials/other/pgpass' dbname='d'");
}

}  // namespace
}  // namespace kveil::policy
