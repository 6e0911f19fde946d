// Reads the agent's configuration: one function per JSON object, in the order of docs/configuration.md.
#include "config/config.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/read_file.h"
#include "config/target_text.h"
#include "config/whole_number.h"

namespace kveil::config {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr size_t kMebibyte = size_t{1} << 20;
constexpr size_t kGibibyte = size_t{1} << 30;
constexpr size_t kLongestSocketPath = 107;  // sun_path of unix(7), with its final zero

PoliciesConfig ReadPolicies(const JsonValue& value, const KeysConfig& keysConfig) {
  PoliciesConfig policies;
  if (!value.isObject()) {
    policies.folder = value.FilePath();
    return policies;
  }
  const JsonObject object(value, {"folder", "trustedKeys", "minimumVersion", "pull"});
  ReadPath(object, "folder", policies.folder);
  if (const auto pull = object.Find("pull")) {
    policies.pull = ReadPull(*pull);
    policies.folder = PulledPoliciesFolder(keysConfig);
    if (const auto folder = object.Find("folder")) folder->Error("expected no folder beside pull, which has its own");
  }
  if (const auto keys = object.Require("trustedKeys")) {
    for (const JsonValue& key : keys->List()) policies.trustedKeys.push_back(key.FilePath());
    // An empty list would not mean that nothing is trusted.
    if (keys->isList() && (policies.trustedKeys.empty() || policies.trustedKeys.size() > kMostTrustedKeys)) {
      keys->Error(StrCat("expected a list of 1 to ", kMostTrustedKeys, " files"));
    }
    for (const std::string& key : policies.trustedKeys) {
      if (!IsInside(key, policies.folder)) continue;
      keys->Error(StrCat("expected files outside of ", policies.folder, ", found ", key,
                         ": who can write the policies could replace the key"));
    }
  }
  if (const auto version = object.Find("minimumVersion")) {
    policies.minimumVersion = version->Integer(1, kHighestWholeNumber);
  }
  return policies;
}

// A client without TLS of its own has that of the cluster that it names. A password must not cross the network in the
// clear.
void TakeTlsOfCluster(const JsonValue& value, const std::vector<ClusterConfig>& clusters, KafkaClientConfig& client) {
  const auto cluster = std::find_if(clusters.begin(), clusters.end(),
                                    [&](const ClusterConfig& known) { return known.name == client.cluster; });
  if (!client.cluster.empty() && cluster == clusters.end()) {
    value.Error(StrCat("expected cluster to be a name that /clusters or a target has, found \"", client.cluster, "\""));
  } else if (!client.cluster.empty() && !client.tls.has_value() && cluster->tls.has_value()) {
    client.tls =
        KafkaClientConfig::Tls{cluster->tls->ca, cluster->tls->certificate, cluster->tls->key, cluster->tls->crl};
  }
  if (client.sasl.has_value() && client.sasl->mechanism == "PLAIN" && !client.tls.has_value()) {
    value.Error("expected tls beside the mechanism PLAIN, which sends the password as it is");
  }
}

AuditTopicConfig ReadAuditTopic(const JsonValue& value, const std::vector<ClusterConfig>& clusters) {
  AuditTopicConfig topic;
  const JsonObject object(value, {"topic", "bootstrapServers", "cluster", "tls", "sasl"});
  topic.topic = ReadTopicName(object, "topic");
  topic.client = ReadKafkaClient(object);
  TakeTlsOfCluster(value, clusters, topic.client);
  return topic;
}

AuditConfig ReadAudit(const JsonValue& value, const std::vector<ClusterConfig>& clusters) {
  AuditConfig audit;
  if (value.isString() && value.String() == "off") {
    audit.isOn = false;
    return audit;
  }
  if (!value.isObject()) {
    value.Expected("\"off\", or an object");
    return audit;
  }
  const JsonObject object(value, {"folder", "keep", "maxSize", "topic"});
  ReadPath(object, "folder", audit.folder);
  if (const auto keep = object.Find("keep")) audit.keep = keep->Duration(hours(24), hours(24 * 3660));
  if (const auto size = object.Find("maxSize")) audit.maxSize = size->Size(16 * kMebibyte, 1024 * kGibibyte);
  if (const auto topic = object.Find("topic")) audit.topic = ReadAuditTopic(*topic, clusters);
  return audit;
}

bool IsGroupName(std::string_view name) {
  return name.size() <= 32 && (absl::ascii_isalpha(name[0]) || name[0] == '_') &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; });
}

void ReadAdmin(const JsonValue& value, AdminConfig& admin) {
  const JsonObject object(value, {"socket", "metrics", "page", "group", "eraseGroup"});
  if (const auto socket = object.Find("socket")) {
    admin.socket = socket->AbsolutePath();
    if (admin.socket.size() > kLongestSocketPath) {
      socket->Expected(StrCat("a path of at most ", kLongestSocketPath, " bytes"));
    }
  }
  if (const auto metrics = object.Find("metrics")) {
    const std::string text = metrics->isString() ? metrics->String() : "";
    admin.metrics = ParseEndpoint(text);
    if (!admin.metrics && text != "off")
      metrics->Expected("an address and port such as \"127.0.0.1:9464\", or \"off\"");
  }
  if (const auto page = object.Find("page")) {
    admin.page = page->OneOf<AdminPage>(
        {{"totals", AdminPage::kTotals}, {"connections", AdminPage::kConnections}, {"off", AdminPage::kOff}});
    // Whoever may look at connections otherwise is root or of a group.
    if (admin.page == AdminPage::kConnections && !(admin.metrics.has_value() && admin.metrics->IsLoopback())) {
      page->Error("expected metrics at a loopback address beside a page with connections: it asks for no password");
    }
  }
  const auto group = [&object](std::string_view key, std::string& field) {
    const auto found = object.Find(key);
    if (!found) return;
    field = found->String();
    if (!field.empty() && !IsGroupName(field)) found->Expected("a group's name");
  };
  group("group", admin.group);
  group("eraseGroup", admin.eraseGroup);
}

void ReadLimits(const JsonValue& value, LimitsConfig& limits) {
  const JsonObject object(
      value, {"connections", "receiveBuffers", "requestSize", "responseSize", "batchSize", "batchUsers", "totalMemory",
              "connectTimeout", "keyTimeout", "stallTimeout", "idleTimeout", "drainTimeout"});
  const auto number = [&](std::string_view key, size_t& field, int64_t least, int64_t most) {
    if (const auto found = object.Find(key)) field = found->Integer(least, most);
  };
  const auto size = [&](std::string_view key, size_t& field, size_t least, size_t most) {
    if (const auto found = object.Find(key)) field = found->Size(least, most);
  };
  const auto duration = [&](std::string_view key, milliseconds& field, milliseconds least, milliseconds most) {
    if (const auto found = object.Find(key)) field = found->Duration(least, most);
  };
  number("connections", limits.connections, 1, 1000000);
  number("receiveBuffers", limits.receiveBuffers, 4, 65536);
  size("requestSize", limits.requestSize, kMebibyte, 256 * kMebibyte);  // a TLS greeting reads as 352 MiB
  size("responseSize", limits.responseSize, kMebibyte, kGibibyte);
  size("batchSize", limits.batchSize, kMebibyte, kGibibyte);
  number("batchUsers", limits.batchUsers, 1, 100000);  // the capacity of a worker's key cache
  size("totalMemory", limits.totalMemory, kMebibyte, 1024 * kGibibyte);
  duration("connectTimeout", limits.connectTimeout, milliseconds(100), minutes(10));
  duration("keyTimeout", limits.keyTimeout, milliseconds(100), minutes(1));
  duration("stallTimeout", limits.stallTimeout, seconds(1), hours(1));
  duration("idleTimeout", limits.idleTimeout, seconds(1), hours(24));
  duration("drainTimeout", limits.drainTimeout, milliseconds(0), minutes(10));

  // A frame that is within its own limit must be able to get its memory, or it would wait for ever.
  if (limits.totalMemory < std::max(limits.requestSize, limits.responseSize)) {
    value.Error("expected totalMemory to be at least requestSize and responseSize");
  }
}

}  // namespace

std::string AuditFolder(const AgentConfig& config) {
  return config.audit.folder.empty() ? StrCat(StateFolder(config.keys), "/audit") : config.audit.folder;
}

absl::StatusOr<AgentConfig> ParseConfig(std::string_view text, const std::string& name) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(text, name);
  if (!document.ok()) return document.status();
  AgentConfig config;
  const JsonObject root(document->root(), {"$schema", "intercept", "clusters", "keys", "consentTopics", "policies",
                                           "audit", "admin", "kubernetes", "workers", "limits", "log"});
  if (const auto schema = root.Find("$schema")) schema->String();
  const std::optional<JsonValue> clusters = root.Find("clusters");
  if (clusters) config.clusters = ReadClusters(*clusters);
  if (const auto intercept = root.Require("intercept")) {
    ReadIntercept(*intercept, clusters ? &config.clusters : nullptr, config.intercept);
  }
  if (!clusters) config.clusters = ClustersOfTargets(config.intercept.targets);
  if (const auto keys = root.Find("keys")) ReadKeys(*keys, config.keys);
  if (const auto topics = root.Find("consentTopics")) {
    config.consentTopics = ReadConsentTopics(*topics);
    for (ConsentTopicConfig& topic : config.consentTopics) TakeTlsOfCluster(*topics, config.clusters, topic.client);
  }
  if (const auto policies = root.Find("policies")) config.policies = ReadPolicies(*policies, config.keys);
  if (const auto audit = root.Find("audit")) config.audit = ReadAudit(*audit, config.clusters);
  if (const auto admin = root.Find("admin")) ReadAdmin(*admin, config.admin);
  if (const auto kubernetes = root.Find("kubernetes")) config.kubernetes = ReadKubernetes(*kubernetes);
  if (const auto workers = root.Find("workers")) config.workers = workers->Integer(0, 1024);
  if (const auto limits = root.Find("limits")) ReadLimits(*limits, config.limits);
  if (const auto logging = root.Find("log")) {
    const JsonObject object(*logging, {"level", "format"});
    if (const auto level = object.Find("level")) {
      using log::Level;
      config.logLevel = level->OneOf<Level>(
          {{"info", Level::kInfo}, {"debug", Level::kDebug}, {"warning", Level::kWarning}, {"error", Level::kError}});
    }
    if (const auto format = object.Find("format")) {
      config.logLayout = format->OneOf<log::Layout>({{"text", log::Layout::kText}, {"json", log::Layout::kJson}});
    }
  }
  if (absl::Status status = document->status(); !status.ok()) return status;
  return config;
}

absl::StatusOr<AgentConfig> LoadConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadTextFile(path);
  if (!text.ok()) return text.status();
  return ParseConfig(*text, path);
}

absl::StatusOr<AdminConfig> LoadAdminConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadTextFile(path);
  if (!text.ok()) return text.status();
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(*text, path);
  if (!document.ok()) return document.status();
  AdminConfig admin;
  for (const auto& [name, value] : document->root().Members()) {
    if (name == "admin") ReadAdmin(value, admin);
  }
  if (absl::Status status = document->status(); !status.ok()) return status;
  return admin;
}

}  // namespace kveil::config
