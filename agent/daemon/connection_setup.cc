#include "daemon/connection_setup.h"

#include <string>
#include <utility>

#include "base/text.h"
#include "guard/apis/chain.h"

namespace kveil::daemon {
namespace {

proxy::Refusal Refuse(observe::ConnectionResult result, const absl::Status& status) {
  return {result, std::string(status.message())};
}

}  // namespace

absl::StatusOr<proxy::ConnectionInfo> ConnectionSetup::Identify(int acceptedFd) {
  absl::StatusOr<identity::Origin> origin = sources_.redirect.OriginOf(acceptedFd);
  if (!origin.ok()) return origin.status();
  if (origin->isProbe) return absl::CancelledError("the agent's own probe");
  proxy::ConnectionInfo info;
  info.origin = *origin;
  info.cluster = sources_.targets.at(origin->targetIndex).cluster;
  info.workload = sources_.workloads.Find(*origin);
  return info;
}

bool ConnectionSetup::IsWhole(proxy::ConnectionInfo& connection) {
  identity::Workload& workload = connection.workload;
  if (sources_.pods == nullptr || workload.podUid.empty()) return true;
  workload.pod = sources_.pods->Find(workload.podUid);
  return workload.pod != nullptr;
}

std::variant<proxy::ConnectionParts, proxy::Refusal> ConnectionSetup::SetUp(const proxy::ConnectionInfo& connection,
                                                                            size_t worker, io::Loop& loop) {
  using observe::ConnectionResult;
  absl::StatusOr<UniqueFd> upstream = MakeUpstream(connection.origin);
  if (!upstream.ok()) return Refuse(ConnectionResult::kBrokerUnreachable, upstream.status());
  const std::vector<std::string> brokerNames =
      sources_.brokers.NamesOf(connection.origin.destination, connection.cluster);
  absl::StatusOr<std::unique_ptr<io::TlsSession>> tls =
      sources_.tls.NewSession(connection.cluster, connection.origin.destination, connection.workload, brokerNames);
  if (!tls.ok()) return Refuse(ConnectionResult::kTlsFailed, tls.status());
  return proxy::ConnectionParts{*std::move(upstream), *std::move(tls),
                                guard::BuildChain(sources_.shared, *sources_.scratch[worker], loop, connection)};
}

absl::StatusOr<UniqueFd> ConnectionSetup::MakeUpstream(const identity::Origin& origin) const {
  intercept::Namespaces* const namespaces = sources_.namespaces.load(std::memory_order_acquire);
  if (namespaces == nullptr) return absl::UnavailableError("the agent is still starting");
  return namespaces->UpstreamSocket(origin);
}

}  // namespace kveil::daemon
