// One function per JSON object, in the order of config.cc.
#include "config/config_text.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/text.h"
#include "config/units.h"

namespace kveil::config {
namespace {

using Json = nlohmann::ordered_json;

// Fields that are empty are left out: their default is that they are not there.
void Put(Json& object, const char* key, const std::string& text) {
  if (!text.empty()) object[key] = text;
}

Json TlsJson(const TlsConfig& tls) {
  Json json = Json::object();
  Put(json, "ca", tls.ca);
  Put(json, "certificate", tls.certificate);
  Put(json, "key", tls.key);
  Put(json, "crl", tls.crl);
  if (!tls.serverNames.empty()) json["serverNames"] = tls.serverNames;
  Put(json, "identities", tls.identities);
  json["minimumVersion"] = tls.version12 ? "1.2" : "1.3";
  return json;
}

Json ClientTlsJson(const ClientTlsConfig& tls) {
  switch (tls.mode) {
    case ClientTlsConfig::Mode::kRefuse:
      return "refuse";
    case ClientTlsConfig::Mode::kPass:
      return "pass";
    case ClientTlsConfig::Mode::kTerminate:
      break;
  }
  using ClientCertificate = ClientTlsConfig::ClientCertificate;
  Json json = Json::object();
  if (tls.folder.empty()) {
    json["certificates"] = Json::array();
    for (const auto& [certificate, key] : tls.certificates) {
      json["certificates"].push_back({{"certificate", certificate}, {"key", key}});
    }
  } else {
    json["certificates"] = tls.folder;
  }
  Put(json, "clientCa", tls.clientCa);
  const bool isRequired = tls.clientCertificate == ClientCertificate::kRequire;
  const char* const asked = isRequired ? "require" : "request";
  json["clientCertificate"] = tls.clientCertificate == ClientCertificate::kNone ? "none" : asked;
  json["minimumVersion"] = tls.version12 ? "1.2" : "1.3";
  return {{"terminate", std::move(json)}};
}

Json ClustersJson(const std::vector<ClusterConfig>& clusters) {
  Json json = Json::object();
  for (const ClusterConfig& cluster : clusters) {
    Json& members = json[cluster.name] = Json::object();
    if (cluster.tls.has_value()) members["tls"] = TlsJson(*cluster.tls);
    members["clientTls"] = ClientTlsJson(cluster.clientTls);
  }
  return json;
}

std::string PortsText(const std::vector<PortRange>& ports) {
  std::string text;
  for (const auto& [first, last] : ports) {
    StrAppend(&text, text.empty() ? "" : ",", first, first == last ? "" : StrCat("-", last));
  }
  return text;
}

Json InterceptJson(const InterceptConfig& intercept) {
  Json targets = Json::array();
  for (const Target& target : intercept.targets) {
    targets.push_back({{"cluster", target.cluster}, {"cidr", target.CidrText()}, {"ports", PortsText(target.ports)}});
  }
  return {
      {"cgroup", intercept.cgroup},
      {"targets", std::move(targets)},
      {"listenPort", intercept.listenPort},
      {"whenDown", intercept.whenDown == WhenDown::kRefuse ? "refuse" : "bypass"},
      {"existing", intercept.existing == Existing::kLeave ? "leave" : "reset"},
      {"advertised", intercept.advertised == Advertised::kLearn ? "learn" : "report"},
      {"accelerate", "off"},
      {"pinDirectory", intercept.pinDirectory},
  };
}

// As libpq quotes a value.
std::string Quoted(std::string_view value) {
  std::string quoted = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string PostgresText(const PostgresConfig& postgres) {
  std::string hosts, addresses, ports;
  for (const PostgresConfig::Server& server : postgres.servers) {
    const char* const comma = &server == &postgres.servers.front() ? "" : ",";
    StrAppend(&hosts, comma, server.host);
    StrAppend(&addresses, comma, server.address);
    StrAppend(&ports, comma, server.port);
  }
  const bool hasAddresses = std::any_of(postgres.servers.begin(), postgres.servers.end(),
                                        [](const auto& each) { return !each.address.empty(); });
  std::string text = StrCat("host=", Quoted(hosts), " port=", Quoted(ports));
  if (hasAddresses) StrAppend(&text, " hostaddr=", Quoted(addresses));
  for (const auto& [name, value] : postgres.parameters) StrAppend(&text, " ", name, "=", Quoted(value));
  return text;
}

Json VaultJson(const VaultConfig& vault) {
  Json json = {{"address", vault.address}, {"mount", vault.mount}};
  Put(json, "key", vault.key);
  Put(json, "namespace", vault.nameSpace);
  Put(json, "ca", vault.ca);
  switch (vault.auth) {
    case VaultConfig::Auth::kTokenFile:
      json["tokenFile"] = vault.secretFile;
      break;
    case VaultConfig::Auth::kAppRole:
      json["appRole"] = {{"roleId", vault.role}, {"secretIdFile", vault.secretFile}, {"mount", vault.authMount}};
      break;
    case VaultConfig::Auth::kKubernetes:
      json["kubernetes"] = {{"role", vault.role}, {"tokenFile", vault.secretFile}, {"mount", vault.authMount}};
      break;
  }
  return json;
}

Json AwsJson(const AwsConfig& aws) {
  Json json = {{"endpoint", aws.endpoint}, {"stsEndpoint", aws.stsEndpoint}};
  Put(json, "key", aws.key);
  if (!aws.key.starts_with("arn:")) json["region"] = aws.region;
  Put(json, "ca", aws.ca);
  return json;
}

Json AzureJson(const AzureConfig& azure) {
  Json json = {{"vault", azure.vault}, {"resource", azure.resource}, {"authority", azure.authority}};
  Put(json, "key", azure.key);
  Put(json, "ca", azure.ca);
  Json identity = Json::object();
  Put(identity, "clientId", azure.clientId);
  Put(identity, "tenant", azure.tenant);
  switch (azure.auth) {
    case AzureConfig::Auth::kManagedIdentity:
      json["managedIdentity"] = std::move(identity);
      break;
    case AzureConfig::Auth::kClientSecret:
      identity["secretFile"] = azure.secretFile;
      json["clientSecret"] = std::move(identity);
      break;
    case AzureConfig::Auth::kWorkloadIdentity:
      identity["tokenFile"] = azure.secretFile;
      json["workloadIdentity"] = std::move(identity);
      break;
  }
  return json;
}

Json GcpJson(const GcpConfig& gcp) {
  Json json = {{"endpoint", gcp.endpoint}};
  Put(json, "key", gcp.key);
  Put(json, "credentialsFile", gcp.credentialsFile);
  Put(json, "ca", gcp.ca);
  return json;
}

Json Pkcs11Json(const Pkcs11Config& pkcs11) {
  const bool isGcm = pkcs11.mechanism == Pkcs11Config::Mechanism::kAesGcm;
  Json json = {{"module", pkcs11.module},
               {"token", pkcs11.token},
               {"pinFile", pkcs11.pinFile},
               {"mechanism", isGcm ? "AES-GCM" : "AES-KEY-WRAP"}};
  Put(json, "key", pkcs11.key);
  return json;
}

Json ProviderJson(const ProviderConfig& provider) {
  Json json = Json::object();
  if (provider.vault.has_value()) json["vault"] = VaultJson(*provider.vault);
  if (provider.aws.has_value()) json["awsKms"] = AwsJson(*provider.aws);
  if (provider.azure.has_value()) json["azureKeyVault"] = AzureJson(*provider.azure);
  if (provider.gcp.has_value()) json["gcpKms"] = GcpJson(*provider.gcp);
  if (provider.pkcs11.has_value()) json["pkcs11"] = Pkcs11Json(*provider.pkcs11);
  return json;
}

Json KeysJson(const KeysConfig& keys) {
  Json root = ProviderJson(keys.rootKey), registry = Json::object();
  if (root.empty()) root["file"] = keys.rootKeyFile;
  if (keys.registryPostgres.has_value()) {
    registry["postgres"] = PostgresText(*keys.registryPostgres);
  } else {
    registry["sqlite"] = keys.registryPath;
  }
  Json json = {{"root", std::move(root)},
               {"registry", std::move(registry)},
               {"cacheTtl", FormatDuration(keys.cacheTtl)},
               {"newUsersPerSecond", keys.newUsersPerSecond},
               {"epochs", {{"turnEvery", FormatDuration(keys.turnEpochsEvery)}}}};
  for (const auto& [name, provider] : keys.kekProviders) json["keks"][name] = ProviderJson(provider);
  return json;
}

void PutKafkaClient(Json& json, const KafkaClientConfig& client) {
  json["bootstrapServers"] = client.bootstrapServers;
  Put(json, "cluster", client.cluster);
  if (client.tls.has_value()) {
    Json& tls = json["tls"] = Json::object();
    Put(tls, "ca", client.tls->ca);
    Put(tls, "certificate", client.tls->certificate);
    Put(tls, "key", client.tls->key);
    Put(tls, "crl", client.tls->crl);
  }
  if (client.sasl.has_value()) {
    json["sasl"] = {{"mechanism", client.sasl->mechanism},
                    {"username", client.sasl->username},
                    {"passwordFile", client.sasl->passwordFile}};
  }
}

Json ConsentTopicsJson(const std::vector<ConsentTopicConfig>& topics) {
  Json json = Json::array();
  for (const ConsentTopicConfig& topic : topics) {
    Json& one = json.emplace_back(Json{{"keyspace", topic.keyspace}, {"topic", topic.topic}});
    PutKafkaClient(one, topic.client);
    one["as"] = topic.as;
    one["staleAfter"] = FormatDuration(topic.staleAfter);
  }
  return json;
}

Json PullJson(const PullConfig& pull) {
  Json json = {{"url", pull.url}};
  Put(json, "ca", pull.ca);
  Put(json, "certificate", pull.certificate);
  Put(json, "key", pull.key);
  Put(json, "tokenFile", pull.tokenFile);
  json["interval"] = FormatDuration(pull.interval);
  json["maxSize"] = FormatSize(pull.maxSize);
  return json;
}

Json PoliciesJson(const PoliciesConfig& policies) {
  if (policies.trustedKeys.empty()) return policies.folder;
  Json json = Json::object();
  if (!policies.pull.has_value()) json["folder"] = policies.folder;
  json["trustedKeys"] = policies.trustedKeys;
  if (policies.pull.has_value()) json["pull"] = PullJson(*policies.pull);
  if (policies.minimumVersion != 0) json["minimumVersion"] = policies.minimumVersion;
  return json;
}

Json AuditJson(const AgentConfig& config) {
  if (!config.audit.isOn) return "off";
  Json json = {{"folder", AuditFolder(config)},
               {"keep", FormatDuration(config.audit.keep)},
               {"maxSize", FormatSize(config.audit.maxSize)}};
  if (config.audit.topic.has_value()) {
    Json& topic = json["topic"] = Json{{"topic", config.audit.topic->topic}};
    PutKafkaClient(topic, config.audit.topic->client);
  }
  return json;
}

Json AdminJson(const AdminConfig& admin) {
  const bool hasPage = admin.page != AdminPage::kOff;
  const char* const page = admin.page == AdminPage::kConnections ? "connections" : "totals";
  Json json = {{"socket", admin.socket},
               {"metrics", admin.metrics.has_value() ? admin.metrics->Text() : "off"},
               {"page", hasPage ? page : "off"}};
  Put(json, "group", admin.group);
  Put(json, "eraseGroup", admin.eraseGroup);
  return json;
}

Json KubernetesJson(const KubernetesConfig& kubernetes) {
  Json json = {{"node", kubernetes.node},
               {"apiServer", kubernetes.apiServer},
               {"ca", kubernetes.ca},
               {"tokenFile", kubernetes.tokenFile},
               {"identityTimeout", FormatDuration(kubernetes.identityTimeout)}};
  Put(json, "startupTaint", kubernetes.startupTaint);
  return json;
}

Json LimitsJson(const LimitsConfig& limits) {
  return {
      {"connections", limits.connections},
      {"receiveBuffers", limits.receiveBuffers},
      {"requestSize", FormatSize(limits.requestSize)},
      {"responseSize", FormatSize(limits.responseSize)},
      {"batchSize", FormatSize(limits.batchSize)},
      {"batchUsers", limits.batchUsers},
      {"totalMemory", FormatSize(limits.totalMemory)},
      {"connectTimeout", FormatDuration(limits.connectTimeout)},
      {"keyTimeout", FormatDuration(limits.keyTimeout)},
      {"stallTimeout", FormatDuration(limits.stallTimeout)},
      {"idleTimeout", FormatDuration(limits.idleTimeout)},
      {"drainTimeout", FormatDuration(limits.drainTimeout)},
  };
}

const char* LevelName(log::Level level) {
  switch (level) {
    case log::Level::kDebug:
      return "debug";
    case log::Level::kInfo:
      return "info";
    case log::Level::kWarning:
      return "warning";
    case log::Level::kError:
      break;
  }
  return "error";
}

}  // namespace

Json ToJson(const AgentConfig& config) {
  Json json = {
      {"intercept", InterceptJson(config.intercept)},
      {"clusters", ClustersJson(config.clusters)},
      {"keys", KeysJson(config.keys)},
      {"policies", PoliciesJson(config.policies)},
      {"audit", AuditJson(config)},
      {"admin", AdminJson(config.admin)},
      {"workers", config.workers},
      {"limits", LimitsJson(config.limits)},
      {"log",
       {{"level", LevelName(config.logLevel)}, {"format", config.logLayout == log::Layout::kJson ? "json" : "text"}}},
  };
  if (!config.consentTopics.empty()) json["consentTopics"] = ConsentTopicsJson(config.consentTopics);
  if (config.kubernetes.has_value()) json["kubernetes"] = KubernetesJson(*config.kubernetes);
  return json;
}

}  // namespace kveil::config
