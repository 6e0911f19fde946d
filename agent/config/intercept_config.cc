#include "config/intercept_config.h"

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "base/host_name.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/target_text.h"

namespace kveil::config {
namespace {

constexpr size_t kMostTargets = 1024;  // the kernel half's table
constexpr size_t kMostPortRanges = 8;  // of one target

// The field `key` as the path of what the kernel has a fixed place for, when it is there.
void ReadSystemPath(const JsonObject& object, std::string_view key, std::string& path) {
  if (const auto value = object.Find(key)) path = value->AbsolutePath();
}

bool IsClusterName(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
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

}  // namespace

bool HasCluster(const std::vector<ClusterConfig>& clusters, std::string_view name) {
  return std::any_of(clusters.begin(), clusters.end(), [&](const ClusterConfig& known) { return known.name == name; });
}

std::string Target::CidrText() const { return StrCat(network.AddressText(), "/", prefixLength); }

std::string WarningOfPassedTls(const std::vector<ClusterConfig>& clusters) {
  std::vector<std::string> names;
  for (const ClusterConfig& cluster : clusters) {
    if (cluster.clientTls.mode == ClientTlsConfig::Mode::kPass) names.push_back(cluster.name);
  }
  if (names.empty()) return "";
  return StrCat("clientTls is \"pass\" for ", absl::StrJoin(names, ", "),
                ": records of applications that speak TLS there are neither sealed nor opened, whatever policies say");
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

std::vector<ClusterConfig> ClustersOfTargets(const std::vector<Target>& targets) {
  std::vector<ClusterConfig> clusters;
  for (const Target& target : targets) {
    if (!HasCluster(clusters, target.cluster))
      clusters.push_back({.name = target.cluster, .tls = std::nullopt, .clientTls = {}});
  }
  return clusters;
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

}  // namespace kveil::config
