// The running agent: makes all parts, wires them together, watches them, and ends them in order.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "admin/admin_server.h"
#include "audit/recorder.h"
#include "audit/tally.h"
#include "audit_topic/trail_sender.h"
#include "base/log.h"
#include "base/mutex.h"
#include "bundle/puller.h"
#include "config/config.h"
#include "consents/topic_follower.h"
#include "daemon/commands/commands.h"
#include "daemon/connection_setup.h"
#include "daemon/erasure_check.h"
#include "daemon/irrecoverable_receipts.h"
#include "daemon/name_lookup.h"
#include "daemon/page_connections.h"
#include "daemon/reloader.h"
#include "daemon/self_checks.h"
#include "daemon/service_manager.h"
#include "fdstore/client.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "intercept/kernel/redirect.h"
#include "intercept/namespaces/namespaces.h"
#include "intercept/workloads/workloads.h"
#include "keys/service/key_service.h"
#include "kubernetes/pod_directory.h"
#include "kubernetes/startup_taint.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "policy/policy_store.h"
#include "proxy/server.h"
#include "receipts/store.h"
#include "tls/client_tls.h"
#include "tls/cluster_tls.h"

namespace kveil::daemon {

class Agent {
 public:
  // Starts everything. First it tries what the machine may refuse, and changes nothing; then it attaches the kernel
  // half. If a later step fails, the error says which, and connects to the targets stay refused as intercept.whenDown
  // says. Only if no agent has ever run here, and this one has relayed nothing, it removes the kernel half again. The
  // agent tells `manager` how it is. `fdstore` keeps its listeners; without one, the manager does. All outlive it.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(config::AgentConfig config, ServiceManager& manager,
                                                      Reloader& reloader, fdstore::Client* fdstore);
  ~Agent();

  // Looks for what may have gone wrong meanwhile, and tells the service manager. Call it about once a second.
  void Watch();
  // Reads the configuration file again, as Reloader says. Any thread.
  absl::StatusOr<Reloader::Outcome> Reload();
  // Accepts nothing new and finishes what has begun, within limits.drainTimeout.
  void Drain();
  std::chrono::milliseconds drainTimeout() const { return config_.limits.drainTimeout; }

 private:
  Agent(config::AgentConfig config, ServiceManager& manager, Reloader& reloader, fdstore::Client* fdstore);

  // The steps of Start, in this order.
  absl::Status Preflight();
  absl::Status Claim();
  absl::Status PullFirst();
  absl::Status Attach();
  absl::Status OpenStores();
  std::unique_ptr<bundle::Puller> MakePuller();
  // Whether this agent can do what they say.
  absl::Status FitsPolicies(const policy::Policy& policies) const;
  absl::Status OpenPolicies();
  absl::Status StartWorkers();
  void StartAudit(unsigned workers);
  void SendAudit();
  void EndAudit();
  absl::Status Serve();
  absl::Status StartEndpoints();
  void FollowConsents();
  void HandOver(absl::AnyInvocable<void()> what);
  void Released(std::optional<uint64_t> netnsCookie);
  guard::BrokerDirectory::Options BrokerOptions();
  bool CoversAll(uint16_t port, uint16_t targetIndex) const;

  // agent_watch.cc
  size_t ServedNamespaces() const;
  void ListenForMetrics();
  observe::MetricsEndpoint::Page MakePage();
  void ProbeHold();
  void RefreshHealth();                                       // any thread
  void NoteOf(const char* name, const absl::Status& status);  // OK: there is nothing to note
  void NoteConsentTopics();
  void NoteClientTls();
  bool IsReady() const;
  absl::Status PodsHealth() const;
  std::string StatusLine() const;
  void WatchRootKey();
  void WatchKeks();
  void WatchEpochs();
  void WatchLog();
  void WatchSender();
  void WatchPuller();

  const config::AgentConfig config_;
  ServiceManager& manager_;
  Reloader& reloader_;
  fdstore::Client* const fdstore_;  // may be null
  const std::chrono::steady_clock::time_point startedAt_ = std::chrono::steady_clock::now();
  observe::Metrics metrics_;
  observe::Health health_;
  std::atomic<bool> probed_{false};
  absl::Status notHeld_;  // why first connects in new namespaces are not held
  int watches_ = 0;
  bool isFirstEver_ = false;  // no agent has made keys on this node yet, nor does this one relay
  log::Losses toldLosses_;    // Watch's
  Mutex handOverMutex_;
  std::vector<absl::AnyInvocable<void()>> handedOverEarly_ ABSL_GUARDED_BY(handOverMutex_);
  Mutex releasedMutex_;
  std::vector<uint64_t> releasedEarly_ ABSL_GUARDED_BY(releasedMutex_);

  CommandTarget commandTarget_{health_, startedAt_};
  const receipts::Store receipts_;
  IrrecoverableReceipts irrecoverable_;

  // In the order in which they are made; they end in the reverse order.
  std::unique_ptr<admin::AdminServer> admin_;
  std::unique_ptr<intercept::Redirect> redirect_;
  std::unique_ptr<intercept::AccessCheck> access_;
  std::unique_ptr<policy::PolicyStore> policies_;
  std::unique_ptr<bundle::Puller> puller_;  // of the policies; nullptr without `policies.pull`
  std::unique_ptr<keys::KeyService> keys_;
  std::vector<std::unique_ptr<consents::TopicFollower>> followers_;  // one per topic that consents come from
  std::unique_ptr<ErasureCheck> erasures_;
  std::unique_ptr<tls::ClusterTls> tls_;
  std::unique_ptr<tls::ClientTls> clientTls_;
  std::unique_ptr<intercept::Workloads> workloads_;
  std::unique_ptr<kubernetes::PodDirectory> pods_;  // nullptr without `kubernetes`
  std::unique_ptr<NameLookup> names_;
  std::unique_ptr<guard::BrokerDirectory> brokers_;
  std::vector<std::unique_ptr<audit::Tally>> tallies_;  // one per worker
  std::unique_ptr<audit::Recorder> audit_;              // nullptr with `audit` off
  std::unique_ptr<audit_topic::TrailSender> sender_;    // nullptr without `audit.topic`
  std::unique_ptr<guard::SharedState> shared_;
  std::vector<std::unique_ptr<guard::WorkerScratch>> scratch_;  // one per worker
  std::unique_ptr<ConnectionSetup> setup_;
  std::unique_ptr<PageConnections> pageConnections_;  // nullptr where the page does not list them
  std::unique_ptr<observe::MetricsEndpoint> metricsEndpoint_;
  std::unique_ptr<proxy::Server> server_;
  std::unique_ptr<intercept::Namespaces> namespaces_;
  std::unique_ptr<SelfChecks> checks_;
  std::unique_ptr<kubernetes::StartupTaint> taint_;  // nullptr without `kubernetes.startupTaint`
  std::atomic<intercept::Namespaces*> serving_{
      nullptr};  // namespaces_, for the workers: connections may come before it is set
};

}  // namespace kveil::daemon
