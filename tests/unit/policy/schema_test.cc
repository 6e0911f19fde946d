// The JSON Schemas in policies/ and the reader agree on every sample, and on the examples that are shipped.
#include <gtest/gtest.h>

#include <functional>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "config/config.h"
#include "documents.h"
#include "policy/policy.h"
#include "source_dir.h"

namespace kveil::policy {
namespace {

const std::string kFolder = KVEIL_SOURCE_DIR "/policies/";

std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class JsonSchema {
 public:
  explicit JsonSchema(const std::string& file) {
    const nlohmann::json document = nlohmann::json::parse(ReadAll(kFolder + file));
    valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
    parser.populateSchema(valijson::adapters::NlohmannJsonAdapter(document), schema_);
  }
  bool Accepts(const std::string& text) const {
    const nlohmann::json document = nlohmann::json::parse(text);
    valijson::Validator validator;
    return validator.validate(schema_, valijson::adapters::NlohmannJsonAdapter(document), nullptr);
  }

 private:
  valijson::Schema schema_;
};

// As a file of this name.
absl::Status ReadPolicy(const std::string& text, const std::string& name = "p.json") {
  const std::pair<std::string, std::string> file(name, text);
  return Policy::Parse({file}).status();
}

void ExpectVerdict(const Sample& sample, const absl::Status& read) {
  if (sample.error.empty()) {
    EXPECT_TRUE(read.ok()) << sample.name << ": " << read;
  } else {
    EXPECT_NE(std::string(read.message()).find(sample.error), std::string::npos) << sample.name << ": " << read;
    EXPECT_EQ(read.code(), absl::StatusCode::kInvalidArgument) << sample.name;
  }
}

TEST(SchemaTest, PolicySchemaAndReaderJudgeEverySampleAlike) {
  const JsonSchema schema("policy.schema.json");
  for (const Sample& sample : PolicySamples()) {
    ExpectVerdict(sample, ReadPolicy(sample.text));
    EXPECT_EQ(schema.Accepts(sample.text), sample.error.empty()) << sample.name << ": the schema says otherwise";
  }
}

TEST(SchemaTest, ConfigurationSchemaAndReaderJudgeEverySampleAlike) {
  const JsonSchema schema("agent.schema.json");
  for (const Sample& sample : ConfigSamples()) {
    ExpectVerdict(sample, config::ParseConfig(sample.text, "c.json").status());
    EXPECT_EQ(schema.Accepts(sample.text), sample.error.empty()) << sample.name << ": the schema says otherwise";
  }
}

TEST(SchemaTest, ShippedExamplesAreGoodForBoth) {
  const JsonSchema policySchema("policy.schema.json");
  size_t examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder + "examples")) {
    if (entry.path().extension() != ".json") continue;  // a list of users
    const std::string text = ReadAll(entry.path());
    EXPECT_TRUE(policySchema.Accepts(text)) << entry.path();
    const absl::Status read = ReadPolicy(text, entry.path());
    EXPECT_TRUE(read.ok()) << entry.path() << ": " << read;
    ++examples;
  }
  EXPECT_GE(examples, 3u);
  EXPECT_TRUE(Policy::Load({kFolder + "examples"}).ok()) << "the examples together";

  for (const char* file : {"agent.example.json", "agent.minimal.json", "agent.tls.json"}) {
    const std::string config = ReadAll(kFolder + file);
    EXPECT_TRUE(JsonSchema("agent.schema.json").Accepts(config)) << file;
    EXPECT_TRUE(config::ParseConfig(config, file).ok()) << file;
  }
}

// The JSON blocks of docs/policy.md, which are whole policies. The files that they name are beside the examples.
TEST(SchemaTest, DocumentedPoliciesAreGoodForBoth) {
  const JsonSchema schema("policy.schema.json");
  const std::string document = ReadAll(KVEIL_SOURCE_DIR "/docs/policy.md");
  const std::string begin = "```json\n";
  size_t found = 0;
  for (size_t at = document.find(begin); at != std::string::npos; at = document.find(begin, at + 1)) {
    const size_t start = at + begin.size();
    const std::string text = document.substr(start, document.find("```", start) - start);
    EXPECT_TRUE(schema.Accepts(text)) << text;
    const absl::Status read = ReadPolicy(text, kFolder + "examples/policy.md.json");
    EXPECT_TRUE(read.ok()) << read << "\n" << text;
    ++found;
  }
  EXPECT_EQ(found, 13u);
}

// Each key of the schema is in one of the policies that users copy from: those of docs/policy.md and the examples.
TEST(SchemaTest, EveryFieldOfPoliciesHasAnExample) {
  std::string copied = ReadAll(KVEIL_SOURCE_DIR "/docs/policy.md");
  std::string blocks;
  const std::string begin = "```json\n";
  for (size_t at = copied.find(begin); at != std::string::npos; at = copied.find(begin, at + 1)) {
    blocks += copied.substr(at, copied.find("```", at + begin.size()) - at);
  }
  for (const auto& entry : std::filesystem::directory_iterator(kFolder + "examples")) blocks += ReadAll(entry.path());
  const nlohmann::json schema = nlohmann::json::parse(ReadAll(kFolder + "policy.schema.json"));
  std::vector<std::string> missing;
  const std::function<void(const nlohmann::json&)> look = [&](const nlohmann::json& part) {
    if (part.is_object() && part.contains("properties")) {
      for (const auto& [key, unused] : part["properties"].items()) {
        if (blocks.find("\"" + key + "\":") == std::string::npos) missing.push_back(key);
      }
    }
    for (const nlohmann::json& inner : part) {
      if (inner.is_structured()) look(inner);
    }
  };
  look(schema);
  EXPECT_EQ(missing, std::vector<std::string>());
}

// The schema's defaults are what an empty document means.
TEST(SchemaTest, ExampleConfigurationStatesTheDefaults) {
  const absl::StatusOr<config::AgentConfig> example = config::LoadConfig(kFolder + "agent.example.json");
  const absl::StatusOr<config::AgentConfig> defaults = config::ParseConfig(
      R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]}})", "c.json");
  ASSERT_TRUE(example.ok() && defaults.ok());
  EXPECT_EQ(example->intercept.cgroup, defaults->intercept.cgroup);
  EXPECT_EQ(example->intercept.listenPort, defaults->intercept.listenPort);
  EXPECT_EQ(example->intercept.whenDown, defaults->intercept.whenDown);
  EXPECT_EQ(example->intercept.existing, defaults->intercept.existing);
  EXPECT_EQ(example->intercept.advertised, defaults->intercept.advertised);
  EXPECT_EQ(example->intercept.pinDirectory, defaults->intercept.pinDirectory);
  EXPECT_EQ(example->keys.rootKeyFile, defaults->keys.rootKeyFile);
  EXPECT_EQ(example->keys.registryPath, defaults->keys.registryPath);
  EXPECT_EQ(example->keys.cacheTtl, defaults->keys.cacheTtl);
  EXPECT_EQ(example->keys.newUsersPerSecond, defaults->keys.newUsersPerSecond);
  EXPECT_EQ(example->keys.turnEpochsEvery, defaults->keys.turnEpochsEvery);
  EXPECT_EQ(example->policies.folder, kFolder + "examples");  // so that it can be tried where it lies
  EXPECT_EQ(example->admin.socket, defaults->admin.socket);
  EXPECT_EQ(example->admin.metrics, defaults->admin.metrics);
  EXPECT_EQ(example->workers, defaults->workers);
  EXPECT_EQ(example->logLevel, defaults->logLevel);
  const config::LimitsConfig& stated = example->limits;
  const config::LimitsConfig& meant = defaults->limits;
  EXPECT_EQ(stated.connections, meant.connections);
  EXPECT_EQ(stated.receiveBuffers, meant.receiveBuffers);
  EXPECT_EQ(stated.requestSize, meant.requestSize);
  EXPECT_EQ(stated.responseSize, meant.responseSize);
  EXPECT_EQ(stated.batchSize, meant.batchSize);
  EXPECT_EQ(stated.batchUsers, meant.batchUsers);
  EXPECT_EQ(stated.totalMemory, meant.totalMemory);
  EXPECT_EQ(stated.connectTimeout, meant.connectTimeout);
  EXPECT_EQ(stated.keyTimeout, meant.keyTimeout);
  EXPECT_EQ(stated.stallTimeout, meant.stallTimeout);
  EXPECT_EQ(stated.idleTimeout, meant.idleTimeout);
  EXPECT_EQ(stated.drainTimeout, meant.drainTimeout);
}

}  // namespace
}  // namespace kveil::policy
