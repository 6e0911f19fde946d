// Reads the agent's configuration: one function per JSON object, in the order of docs/configuration.md.
#include "config/config.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "base/host_name.h"
#include "base/text.h"
#include "config/credentials.h"
#include "config/json_value.h"
#include "config/postgres_text.h"
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
constexpr size_t kMostTargets = 1024;       // the kernel half's table
constexpr size_t kMostPortRanges = 8;       // of one target
constexpr size_t kLongestSocketPath = 107;  // sun_path of unix(7), with its final zero

bool IsClusterName(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

// The field `key` as the path of what the kernel has a fixed place for, when it is there.
void ReadSystemPath(const JsonObject& object, std::string_view key, std::string& path) {
  if (const auto value = object.Find(key)) path = value->AbsolutePath();
}

bool HasCluster(const std::vector<ClusterConfig>& clusters, std::string_view name) {
  return std::any_of(clusters.begin(), clusters.end(), [&](const ClusterConfig& known) { return known.name == name; });
}

// A host name, or one with a leading dot for every name below it.
bool IsServerName(std::string_view name) {
  if (name.starts_with('.')) name.remove_prefix(1);
  return IsHostName(name);
}

TlsConfig ReadTls(const JsonValue& value) {
  TlsConfig tls;
  const JsonObject object(value, {"ca", "certificate", "key", "crl", "serverNames", "identities", "minimumVersion"});
  ReadPath(object, "ca", tls.ca);
  ReadPath(object, "certificate", tls.certificate);
  ReadPath(object, "key", tls.key);
  ReadPath(object, "crl", tls.crl);
  ReadPath(object, "identities", tls.identities);
  if (tls.certificate.empty() != tls.key.empty()) value.Error("expected certificate and key together");
  if (const auto names = object.Find("serverNames")) {
    const std::vector<JsonValue> items = names->List();
    // An empty list would not mean that every name is accepted, as one might read it.
    if (items.empty()) names->Error("expected a list of at least one host name");
    for (const JsonValue& item : items) {
      tls.serverNames.push_back(item.String());
      if (!IsServerName(tls.serverNames.back())) {
        item.Expected("a host name, or one with a leading dot for every name below it (no address)");
      }
    }
  }
  if (const auto version = object.Find("minimumVersion")) {
    tls.version12 = version->OneOf<bool>({{"1.2", true}, {"1.3", false}});
  }
  return tls;
}

std::vector<ClusterConfig> ReadClusters(const JsonValue& value) {
  std::vector<ClusterConfig> clusters;
  for (const auto& [name, member] : value.Members()) {
    if (!IsClusterName(name)) {
      member.Error("expected a cluster's name of at most 64 letters, digits, '.', '_' and '-'");
    }
    const JsonObject object(member, {"tls", "clientTls"});
    ClusterConfig& cluster = clusters.emplace_back();
    cluster.name = name;
    if (const auto tls = object.Find("tls")) cluster.tls = ReadTls(*tls);
    if (const auto tls = object.Find("clientTls")) cluster.clientTls = ReadClientTls(*tls);
    // What an application encrypts must not leave the node in the clear.
    if (cluster.clientTls.mode == ClientTlsConfig::Mode::kTerminate && !cluster.tls.has_value()) {
      member.Error("expected tls beside a clientTls that terminates TLS");
    }
  }
  return clusters;
}

// `clusters` is nullptr when the file lists none.
Target ReadTarget(const JsonValue& value, const std::vector<ClusterConfig>* clusters) {
  Target target;
  const JsonObject object(value, {"cluster", "cidr", "ports"});
  if (const auto cluster = object.Require("cluster")) {
    target.cluster = cluster->String();
    if (!target.cluster.empty() && !IsClusterName(target.cluster)) {
      cluster->Expected("a cluster's name of at most 64 letters, digits, '.', '_' and '-'");
    } else if (clusters != nullptr && !target.cluster.empty() && !HasCluster(*clusters, target.cluster)) {
      cluster->Expected("a name that /clusters has");
    }
  }
  if (const auto cidr = object.Require("cidr")) {
    const absl::StatusOr<Network> network = ParseNetwork(cidr->isString() ? cidr->String() : "");
    if (network.ok()) {
      target.network = network->address;
      target.prefixLength = network->prefixLength;
    } else {
      cidr->Expected(ToStd(network.status().message()));
    }
  }
  if (const auto ports = object.Require("ports")) {
    const auto ranges = ParsePorts(ports->isString() ? ports->String() : "");
    if (!ranges) ports->Expected("ports such as \"9092\", \"9092-9094\" or \"9092,19092-19094\"");
    if (ranges) target.ports = *ranges;
    if (target.ports.size() > kMostPortRanges) ports->Expected(StrCat("at most ", kMostPortRanges, " port ranges"));
  }
  return target;
}

std::vector<Target> ReadTargets(const JsonValue& value, const std::vector<ClusterConfig>* clusters) {
  std::vector<Target> targets;
  const std::vector<JsonValue> items = value.List();
  if (items.empty()) value.Error("expected at least one target");
  if (items.size() > kMostTargets) value.Error(StrCat("expected at most ", kMostTargets, " targets"));
  for (const JsonValue& item : items) {
    Target target = ReadTarget(item, clusters);
    for (size_t i = 0; i < targets.size() && target.network.family() != AF_UNSPEC; ++i) {
      if (targets[i].network == target.network && targets[i].prefixLength == target.prefixLength) {
        item.Error(StrCat("the network ", target.CidrText(), " is target ", i, " already"));
      }
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

void ReadIntercept(const JsonValue& value, const std::vector<ClusterConfig>* clusters, InterceptConfig& intercept) {
  const JsonObject object(
      value, {"cgroup", "targets", "listenPort", "whenDown", "existing", "advertised", "accelerate", "pinDirectory"});
  ReadSystemPath(object, "cgroup", intercept.cgroup);
  if (const auto targets = object.Require("targets")) intercept.targets = ReadTargets(*targets, clusters);
  if (const auto port = object.Find("listenPort")) intercept.listenPort = port->Integer(1, 65535);
  if (const auto rule = object.Find("whenDown")) {
    intercept.whenDown = rule->OneOf<WhenDown>({{"refuse", WhenDown::kRefuse}, {"bypass", WhenDown::kBypass}});
  }
  if (const auto rule = object.Find("existing")) {
    intercept.existing = rule->OneOf<Existing>({{"leave", Existing::kLeave}, {"reset", Existing::kReset}});
  }
  if (const auto rule = object.Find("advertised")) {
    intercept.advertised = rule->OneOf<Advertised>({{"learn", Advertised::kLearn}, {"report", Advertised::kReport}});
  }
  if (const auto accelerate = object.Find("accelerate")) {
    if (!accelerate->isString() || accelerate->String() != "off") {
      accelerate->Expected("\"off\" (the short cut through the kernel is not supported in this version)");
    }
  }
  ReadSystemPath(object, "pinDirectory", intercept.pinDirectory);
}

// A file without `clusters` means plain TCP to every cluster that a target names.
std::vector<ClusterConfig> ClustersOfTargets(const std::vector<Target>& targets) {
  std::vector<ClusterConfig> clusters;
  for (const Target& target : targets) {
    if (!HasCluster(clusters, target.cluster))
      clusters.push_back({.name = target.cluster, .tls = std::nullopt, .clientTls = {}});
  }
  return clusters;
}

// No error shows the string: a secret may be in it by mistake.
PostgresConfig ReadPostgres(const JsonValue& value) {
  if (!value.isString()) {
    value.Error("expected a PostgreSQL connection string such as \"host=db.example dbname=kveil user=kveil\"");
    return {};
  }
  absl::StatusOr<PostgresConfig> postgres = ParsePostgres(value.String());
  if (!postgres.ok()) value.Error(ToStd(postgres.status().message()));
  return postgres.ok() ? *std::move(postgres) : PostgresConfig();
}

void ReadKeys(const JsonValue& value, KeysConfig& keys) {
  const JsonObject object(value, {"root", "keks", "registry", "cacheTtl", "newUsersPerSecond", "epochs"});
  if (const auto root = object.Find("root")) {
    const JsonObject source(*root, {"file", "vault", "awsKms", "azureKeyVault", "gcpKms", "pkcs11"});
    const auto kind = source.ExactlyOneOf({"file", "vault", "awsKms", "azureKeyVault", "gcpKms", "pkcs11"});
    if (kind == "file") {
      ReadPath(source, "file", keys.rootKeyFile);
    } else if (kind.has_value()) {
      keys.rootKeyFile.clear();
      keys.rootKey = ReadProvider(source, *kind, KeyNamedBy::kConfiguration);
    }
  }
  if (const auto keks = object.Find("keks")) keys.kekProviders = ReadKekProviders(*keks);
  if (const auto registry = object.Find("registry")) {
    const JsonObject source(*registry, {"sqlite", "postgres"});
    const auto kind = source.ExactlyOneOf({"sqlite", "postgres"});
    if (kind == "sqlite") ReadPath(source, "sqlite", keys.registryPath);
    if (kind == "postgres") keys.registryPostgres = ReadPostgres(*source.Find("postgres"));
  }
  if (const auto ttl = object.Find("cacheTtl")) keys.cacheTtl = ttl->Duration(seconds(1), hours(1));
  if (const auto users = object.Find("newUsersPerSecond")) keys.newUsersPerSecond = users->Integer(1, 1000000);
  if (const auto epochs = object.Find("epochs")) {
    const JsonObject turns(*epochs, {"turnEvery"});
    const auto every = turns.Find("turnEvery");
    if (every) keys.turnEpochsEvery = every->Duration(milliseconds(0), hours(24 * 366));
    const bool isTooOften = every && keys.turnEpochsEvery > milliseconds(0) && keys.turnEpochsEvery < hours(1);
    if (isTooOften) every->Error("expected \"0s\" (never), or a duration from 1h to 8784h");
  }
}

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

// Where the agent may write, beside its keys: without a slash at the end.
std::string StateFolder(const KeysConfig& keys) {
  // Nothing can be written beside a credential.
  const bool isBesideRootKey = keys.registryPostgres.has_value() && !keys.rootKeyFile.empty() &&
                               !keys.rootKeyFile.starts_with(ExpandCredentials(std::string(kCredentials)));
  const std::string& neighbour = isBesideRootKey ? keys.rootKeyFile : keys.registryPath;
  return neighbour.substr(0, neighbour.rfind('/'));
}

}  // namespace

std::string ReceiptsFolder(const KeysConfig& keys) { return StrCat(StateFolder(keys), "/receipts"); }

std::string AcceptedPoliciesFile(const KeysConfig& keys) { return StrCat(StateFolder(keys), "/policies.accepted"); }

std::string PulledPoliciesFolder(const KeysConfig& keys) { return StrCat(StateFolder(keys), "/policies.pulled"); }

std::string AuditFolder(const AgentConfig& config) {
  return config.audit.folder.empty() ? StrCat(StateFolder(config.keys), "/audit") : config.audit.folder;
}

std::string WarningOfPassedTls(const std::vector<ClusterConfig>& clusters) {
  std::vector<std::string> names;
  for (const ClusterConfig& cluster : clusters) {
    if (cluster.clientTls.mode == ClientTlsConfig::Mode::kPass) names.push_back(cluster.name);
  }
  if (names.empty()) return "";
  return StrCat("clientTls is \"pass\" for ", absl::StrJoin(names, ", "),
                ": records of applications that speak TLS there are neither sealed nor opened, whatever policies say");
}

std::string Target::CidrText() const { return StrCat(network.AddressText(), "/", prefixLength); }

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
