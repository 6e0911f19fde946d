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

proxy::ClientTls ClientTlsOf(const tls::ClientTls& clientTls, const std::string& cluster) {
  using Mode = config::ClientTlsConfig::Mode;
  switch (clientTls.ModeOf(cluster)) {
    case Mode::kPass:
      return proxy::ClientTls::kPass;
    case Mode::kTerminate:
      return clientTls.NeedsCertificate(cluster) ? proxy::ClientTls::kRequire : proxy::ClientTls::kTerminate;
    case Mode::kRefuse:
      break;
  }
  return proxy::ClientTls::kRefuse;
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
  const auto namesOf = [this](const proxy::ConnectionInfo& made) {
    return sources_.brokers.NamesOf(made.origin.destination, made.cluster);
  };
  proxy::ConnectionParts parts;
  parts.upstream = *std::move(upstream);
  parts.brokerTls = [this, namesOf](const proxy::ConnectionInfo& made) {
    return sources_.tls.NewSession(made.cluster, made.origin.destination, made.workload, namesOf(made),
                                   {.subject = made.certificateSubject, .commonName = made.certificateName});
  };
  parts.interceptors = guard::BuildChain(sources_.shared, *sources_.scratch[worker], loop, connection);
  parts.clientTls = ClientTlsOf(sources_.clientTls, connection.cluster);
  parts.applicationTls = [this, namesOf](const proxy::ConnectionInfo& made) {
    return sources_.clientTls.NewSession(made.cluster, made.origin.destination, namesOf(made));
  };
  return parts;
}

absl::StatusOr<UniqueFd> ConnectionSetup::MakeUpstream(const identity::Origin& origin) const {
  intercept::Namespaces* const namespaces = sources_.namespaces.load(std::memory_order_acquire);
  if (namespaces == nullptr) return absl::UnavailableError("the agent is still starting");
  return namespaces->UpstreamSocket(origin);
}

}  // namespace kveil::daemon
