// Which connections are taken over, and the clusters that they go to: `intercept` and `clusters`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/socket_address.h"
#include "config/client_tls_config.h"

namespace kveil::config {

// Both ends included; 1 <= first <= last.
struct PortRange {
  uint16_t first = 0;
  uint16_t last = 0;
  friend bool operator==(const PortRange& a, const PortRange& b) { return a.first == b.first && a.last == b.last; }
};

// Destinations whose connections the agent takes over. If two networks overlap, the ports of the longer prefix come
// first, then those of the shorter.
struct Target {
  std::string cluster;
  SocketAddress network;         // port 0; no bit set beyond prefixLength; never v4-mapped
  uint8_t prefixLength = 0;      // 0-32 or 0-128
  std::vector<PortRange> ports;  // at least one, ascending, neither overlapping nor adjacent
  std::string CidrText() const;
  bool Has(uint16_t port) const {
    return std::any_of(ports.begin(), ports.end(),
                       [port](const PortRange& range) { return range.first <= port && port <= range.last; });
  }
};

enum class WhenDown { kRefuse, kBypass };   // a connect to a target while no agent runs
enum class Existing { kLeave, kReset };     // connections older than the agent
enum class Advertised { kLearn, kReport };  // brokers that a response advertises outside the targets

struct InterceptConfig {
  std::string cgroup = "/sys/fs/cgroup";
  std::vector<Target> targets;
  uint16_t listenPort = 15931;
  WhenDown whenDown = WhenDown::kRefuse;
  Existing existing = Existing::kLeave;
  Advertised advertised = Advertised::kLearn;
  std::string pinDirectory = "/sys/fs/bpf/kveil";
};

// TLS to the brokers of a cluster. Paths of PEM files; empty: none.
struct TlsConfig {
  std::string ca;
  std::string certificate;
  std::string key;
  std::string crl;
  // A broker's certificate must have one of these names; ".example" means any name below.
  std::vector<std::string> serverNames;
  std::string identities;  // folder with UNIT.crt and UNIT.key of workloads that have their own certificates
  bool version12 = true;   // TLS 1.2 besides 1.3
};

struct ClusterConfig {
  std::string name;
  std::optional<TlsConfig> tls;  // to the brokers; std::nullopt: plain TCP
  ClientTlsConfig clientTls;     // from applications
};

// What users should know of clusters where applications may speak TLS past the agent. Empty: there are none.
std::string WarningOfPassedTls(const std::vector<ClusterConfig>& clusters);

class JsonValue;

bool HasCluster(const std::vector<ClusterConfig>& clusters, std::string_view name);

std::vector<ClusterConfig> ReadClusters(const JsonValue& value);
// A file without `clusters` means plain TCP to every cluster that a target names.
std::vector<ClusterConfig> ClustersOfTargets(const std::vector<Target>& targets);

// `clusters` is nullptr when the file lists none.
void ReadIntercept(const JsonValue& value, const std::vector<ClusterConfig>* clusters, InterceptConfig& intercept);

}  // namespace kveil::config
