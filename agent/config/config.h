// The agent's configuration: everything about this node rather than about topics. docs/configuration.md explains every
// field to users; policies/agent.schema.json describes the same for editors.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/log.h"
#include "base/socket_address.h"
#include "config/consent_topic_config.h"
#include "config/intercept_config.h"
#include "config/kafka_client_config.h"
#include "config/keys_config.h"
#include "config/kubernetes_config.h"
#include "config/pull_config.h"

namespace kveil::config {

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
