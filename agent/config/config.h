// The agent's configuration: everything about this node rather than about topics. docs/configuration.md explains every
// field to users; policies/agent.schema.json describes the same for editors.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/log.h"
#include "base/socket_address.h"
#include "config/client_tls_config.h"
#include "config/consent_topic_config.h"
#include "config/kafka_client_config.h"
#include "config/kek_config.h"
#include "config/kubernetes_config.h"
#include "config/pull_config.h"

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

// A PostgreSQL connection string, taken apart.
struct PostgresConfig {
  struct Server {
    std::string host;     // a name, an address, or the folder of a Unix socket
    std::string address;  // of the host; empty: look it up
    std::string port;
  };
  std::vector<Server> servers;  // at least one
  // The rest, as libpq names them. Has no password.
  std::vector<std::pair<std::string, std::string>> parameters;
};

struct KeysConfig {
  std::string rootKeyFile = "/var/lib/kveil/root.key";  // empty: the root key is elsewhere
  ProviderConfig rootKey;                               // there
  std::vector<KekProviderConfig> kekProviders;
  std::string registryPath = "/var/lib/kveil/registry.db";
  std::optional<PostgresConfig> registryPostgres;  // instead of registryPath
  std::chrono::milliseconds cacheTtl = std::chrono::seconds(60);
  size_t newUsersPerSecond = 10000;                                        // whose keys are made, per workload
  std::chrono::milliseconds turnEpochsEvery = std::chrono::hours(7 * 24);  // 0: only when told to
};

// Where the receipts of erasures are: beside the registry's file, or beside the root key's when the registry is
// elsewhere.
std::string ReceiptsFolder(const KeysConfig& keys);

// A topic that the audit trail is sent to.
struct AuditTopicConfig {
  std::string topic;
  KafkaClientConfig client;
};

// Where the policies are, and who may change them.
struct PoliciesConfig {
  std::string folder = "/etc/kveil/policies";
  // PEM files with Ed25519 keys, one of which has to have signed them; empty: they need not be signed.
  std::vector<std::string> trustedKeys;
  int64_t minimumVersion = 0;      // of signed ones
  std::optional<PullConfig> pull;  // signed ones are pulled into `folder`, which then is PulledPoliciesFolder
};
inline constexpr size_t kMostTrustedKeys = 16;

// The trail of who read and wrote what.
struct AuditConfig {
  bool isOn = true;
  std::string folder;  // empty: beside the receipts
  std::chrono::milliseconds keep = std::chrono::hours(24 * 90);
  size_t maxSize = size_t{256} << 20;  // bytes of all its files
  std::optional<AuditTopicConfig> topic;
};

// What the web page beside the metrics shows.
enum class AdminPage {
  kOff,
  kTotals,       // what the metrics have
  kConnections,  // also whose the busiest connections are
};

struct AdminConfig {
  std::string socket = "/run/kveil/admin.sock";
  std::optional<SocketAddress> metrics =
      SocketAddress::V4(htonl(INADDR_LOOPBACK), 9464);  // 127.0.0.1:9464; nullopt: no endpoint
  AdminPage page = AdminPage::kTotals;                  // at the same address
  std::string group;                                    // may look, besides root; empty: root only
  std::string eraseGroup;                               // may also erase, besides root; empty: root only
};

// Bounds on the agent's memory and patience. Sizes are in bytes.
struct LimitsConfig {
  size_t connections = 10000;                   // at once, over all workers
  size_t receiveBuffers = 256;                  // per worker, 1 MiB each; slow readers hold one each
  size_t requestSize = 100 * size_t{1} << 20;   // longest frame from a client (Kafka's socket.request.max.bytes)
  size_t responseSize = 128 * size_t{1} << 20;  // longest response that is read whole
  size_t batchSize = 64 * size_t{1} << 20;      // one record batch after decompression
  size_t batchUsers = 100000;                   // different users per record batch
  size_t totalMemory = size_t{1} << 30;         // frames longer than a receive buffer, over all workers
  std::chrono::milliseconds connectTimeout = std::chrono::seconds(10);  // to the broker
  std::chrono::milliseconds keyTimeout = std::chrono::seconds(5);       // how long a frame waits for keys
  std::chrono::milliseconds stallTimeout = std::chrono::minutes(2);     // a frame begun, or a send, that stalls
  std::chrono::milliseconds idleTimeout = std::chrono::minutes(30);     // a silent connection
  std::chrono::milliseconds drainTimeout = std::chrono::seconds(10);    // after SIGTERM, and for a namespace that ends
};

struct AgentConfig {
  InterceptConfig intercept;
  std::vector<ClusterConfig> clusters;  // those that targets name, even if the file has no `clusters`
  KeysConfig keys;
  std::vector<ConsentTopicConfig> consentTopics;
  PoliciesConfig policies;
  AuditConfig audit;
  AdminConfig admin;
  std::optional<KubernetesConfig> kubernetes;  // nullopt: pods are not told apart
  unsigned workers = 0;                        // 0: one per core
  LimitsConfig limits;
  log::Level logLevel = log::Level::kInfo;
  log::Layout logLayout = log::Layout::kText;
};

// The file that remembers which version of signed policies was accepted: beside the receipts.
std::string AcceptedPoliciesFile(const KeysConfig& keys);

// Where policies are that were pulled: beside that file.
std::string PulledPoliciesFolder(const KeysConfig& keys);

// Where the audit trail is.
std::string AuditFolder(const AgentConfig& config);

inline constexpr char kDefaultConfigPath[] = "/etc/kveil/agent.json";

// Reads and checks a configuration file. kNotFound: no such file. kInvalidArgument: one line "FILE: JSON POINTER: what
// was expected and what was found".
absl::StatusOr<AgentConfig> LoadConfig(const std::string& path);

// Only where the running agent is asked, of a file that may need the agent's environment, or have other faults. Errors:
// those of LoadConfig.
absl::StatusOr<AdminConfig> LoadAdminConfig(const std::string& path);

// The same as LoadConfig for text in memory; `name` stands for the file in errors.
absl::StatusOr<AgentConfig> ParseConfig(std::string_view text, const std::string& name);

}  // namespace kveil::config
