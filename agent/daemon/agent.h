// The running agent: every part made, wired to the others, watched, and ended in order.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "admin/admin_server.h"
#include "base/log.h"
#include "config/config.h"
#include "daemon/connection_setup.h"
#include "daemon/name_lookup.h"
#include "daemon/self_checks.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "intercept/kernel/redirect.h"
#include "intercept/namespaces/namespaces.h"
#include "intercept/workloads/workloads.h"
#include "keys/service/key_service.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "policy/policy_store.h"
#include "proxy/server.h"
#include "tls/cluster_tls.h"

namespace kveil::daemon {

class Agent {
 public:
  // Starts everything. What the machine may refuse is tried first, with nothing changed; then the kernel half is
  // attached. When a later part fails, the error says what failed, and connects to the targets stay refused, as
  // intercept.whenDown has it. Only where no agent has ever run, and this one has relayed nothing, is the kernel half
  // taken away again.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(config::AgentConfig config);
  ~Agent();

  // Looks at what may have gone wrong meanwhile; call about once a second.
  void Watch();
  // Takes nothing new, finishes what was begun, within limits.drainTimeout.
  void Drain();
  std::chrono::milliseconds drainTimeout() const { return config_.limits.drainTimeout; }

 private:
  explicit Agent(config::AgentConfig config);

  absl::Status Preflight();
  absl::Status Claim();
  absl::Status Attach();
  absl::Status OpenStores();
  absl::Status StartWorkers();
  absl::Status Serve();
  void ProbeHold();
  absl::Status StartEndpoints();
  void Released(std::optional<uint64_t> netnsCookie);
  void ListenForMetrics();
  size_t ServedNamespaces() const;
  guard::BrokerDirectory::Options BrokerOptions();
  bool CoversAll(uint16_t port, uint16_t targetIndex) const;
  absl::StatusOr<std::string> StatusJson();
  void RefreshHealth();
  void NoteOf(const char* name, const absl::Status& status);  // OK: there is nothing to note
  bool IsReady() const;
  void WatchLog();
  absl::StatusOr<std::string> Erase(std::string_view requestJson);

  const config::AgentConfig config_;
  const std::chrono::steady_clock::time_point startedAt_ = std::chrono::steady_clock::now();
  observe::Metrics metrics_;
  observe::Health health_;
  std::atomic<bool> probed_{false};
  absl::Status notHeld_;  // why first connects in new namespaces are not held
  int watches_ = 0;
  bool isFirstEver_ = false;  // no agent has made keys on this node yet, nor does this one relay
  log::Losses toldLosses_;    // Watch's
  std::mutex releasedMutex_;
  std::vector<uint64_t> releasedEarly_;  // guarded by releasedMutex_

  // In the order of their making; they end in the opposite one.
  std::unique_ptr<admin::AdminServer> admin_;
  std::unique_ptr<intercept::Redirect> redirect_;
  std::unique_ptr<intercept::AccessCheck> access_;
  std::unique_ptr<policy::PolicyStore> policies_;
  std::unique_ptr<keys::KeyService> keys_;
  std::unique_ptr<tls::ClusterTls> tls_;
  std::unique_ptr<intercept::Workloads> workloads_;
  std::unique_ptr<NameLookup> names_;
  std::unique_ptr<guard::BrokerDirectory> brokers_;
  std::unique_ptr<guard::SharedState> shared_;
  std::vector<std::unique_ptr<guard::WorkerScratch>> scratch_;  // one a worker
  std::unique_ptr<ConnectionSetup> setup_;
  std::unique_ptr<observe::MetricsEndpoint> metricsEndpoint_;
  std::unique_ptr<proxy::Server> server_;
  std::unique_ptr<intercept::Namespaces> namespaces_;
  std::unique_ptr<SelfChecks> checks_;
  std::atomic<intercept::Namespaces*> serving_{
      nullptr};  // namespaces_, for the workers: connections may come before it is set
};

}  // namespace kveil::daemon
