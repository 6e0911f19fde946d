// What each new connection is given: its identity, the socket to its broker, TLS, interceptors.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "config/config.h"
#include "guard/learn/broker_directory.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "intercept/kernel/redirect.h"
#include "intercept/namespaces/namespaces.h"
#include "intercept/workloads/workloads.h"
#include "kubernetes/pod_directory.h"
#include "proxy/connection_setup.h"
#include "tls/client_tls.h"
#include "tls/cluster_tls.h"

namespace kveil::daemon {

class ConnectionSetup final : public proxy::ConnectionSetup {
 public:
  // All of them outlive the server that uses this.
  struct Sources {
    const std::vector<config::Target>& targets;
    intercept::Redirect& redirect;
    intercept::Workloads& workloads;
    // nullptr until the agent serves namespaces.
    const std::atomic<intercept::Namespaces*>& namespaces;
    const kubernetes::PodDirectory* pods;  // nullptr: pods are not told apart
    tls::ClusterTls& tls;
    const tls::ClientTls& clientTls;
    guard::BrokerDirectory& brokers;
    guard::SharedState& shared;
    const std::vector<std::unique_ptr<guard::WorkerScratch>>& scratch;  // one per worker
  };
  explicit ConnectionSetup(const Sources& sources) : sources_(sources) {}

  absl::StatusOr<proxy::ConnectionInfo> Identify(int acceptedFd) override;
  bool IsWhole(proxy::ConnectionInfo& connection) override;
  std::variant<proxy::ConnectionParts, proxy::Refusal> SetUp(const proxy::ConnectionInfo& connection, size_t worker,
                                                             io::Loop& loop) override;

 private:
  absl::StatusOr<UniqueFd> MakeUpstream(const identity::Origin& origin) const;

  const Sources sources_;
};

}  // namespace kveil::daemon
