#include "proxy/cluster_tls.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace kveil::proxy {
namespace {

using Clock = std::chrono::steady_clock;

// Files are looked at again no more often than that, when a connection needs them.
constexpr std::chrono::seconds kLookAgain{1};

// What changes when a file is written or replaced. A link is followed, as Kubernetes swaps links.
std::string StateOf(const io::TlsFiles& files) {
  std::string state;
  for (const std::string* path : {&files.ca, &files.certificate, &files.key, &files.crl}) {
    struct stat info;
    if (path->empty() || ::stat(path->c_str(), &info) != 0) {
      state += "-;";
      continue;
    }
    state += StrCat(info.st_dev, " ", info.st_ino, " ", info.st_size, " ", info.st_mtim.tv_sec, " ",
                    info.st_mtim.tv_nsec, ";");
  }
  return state;
}

bool Exists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

// The name for the greeting: what the cluster calls the broker now, or the only name that is configured.
std::string SentName(const policy::TlsConfig& config, const std::vector<std::string>& advertisedNames) {
  if (!advertisedNames.empty()) return advertisedNames.front();
  if (config.serverNames.size() == 1 && !config.serverNames.front().starts_with('.')) return config.serverNames.front();
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterTls>> ClusterTls::Load(const std::vector<policy::ClusterConfig>& clusters) {
  std::unique_ptr<ClusterTls> loaded(new ClusterTls());
  const std::lock_guard lock(loaded->mutex_);
  for (const policy::ClusterConfig& cluster : clusters) {
    if (!cluster.tls.has_value()) continue;
    Cluster& made = loaded->clusters_[cluster.name];
    made.config = *cluster.tls;
    const auto context = loaded->ContextFor(cluster.name, made, FilesFor(made.config, policy::Workload()));
    if (!context.ok()) return context.status();
  }
  return loaded;
}

bool ClusterTls::IsUsedBy(const std::string& cluster) const {
  const std::lock_guard lock(mutex_);
  return clusters_.contains(cluster);
}

io::TlsFiles ClusterTls::FilesFor(const policy::TlsConfig& config, const policy::Workload& workload) {
  io::TlsFiles files{.ca = config.ca, .certificate = config.certificate, .key = config.key, .crl = config.crl};
  if (config.identities.empty() || workload.unit.empty()) return files;
  const std::string own = StrCat(config.identities, "/", workload.unit);
  if (Exists(own + ".crt")) {
    files.certificate = own + ".crt";
    files.key = own + ".key";
  }
  return files;
}

absl::StatusOr<std::shared_ptr<io::TlsContext>> ClusterTls::ContextFor(const std::string& name, Cluster& cluster,
                                                                       const io::TlsFiles& files) {
  Identity& identity = cluster.identities[files.certificate];
  const Clock::time_point now = Clock::now();
  if (identity.context != nullptr && now - identity.lookedAt < kLookAgain) return identity.context;
  identity.lookedAt = now;
  std::string state = StateOf(files);
  const bool isNew = identity.context == nullptr;
  if (!isNew && state == identity.state) return identity.context;
  identity.state = std::move(state);
  absl::StatusOr<std::shared_ptr<io::TlsContext>> context = io::TlsContext::Load(files, cluster.config.version12);
  if (!context.ok()) {
    const absl::Status problem(context.status().code(),
                               StrCat("TLS of cluster ", name, ": ", ToStd(context.status().message())));
    if (isNew) {
      cluster.identities.erase(files.certificate);
      return problem;
    }
    identity.problem = problem;
    log::Error("tls.refused", {{"cluster", name}, {"reason", context.status()}});
    return identity.context;
  }
  if (!isNew) log::Info("tls.reloaded", {{"cluster", name}, {"certificate", files.certificate}});
  identity.context = *std::move(context);
  identity.problem = absl::OkStatus();
  return identity.context;
}

absl::StatusOr<std::unique_ptr<io::TlsSession>> ClusterTls::NewSession(
    const ConnectionInfo& connection, const std::vector<std::string>& advertisedNames) {
  std::shared_ptr<io::TlsContext> context;
  io::TlsPeer peer;
  peer.address = connection.broker;
  {
    const std::lock_guard lock(mutex_);
    const auto cluster = clusters_.find(connection.cluster);
    if (cluster == clusters_.end()) return nullptr;
    const policy::TlsConfig& config = cluster->second.config;
    auto found = ContextFor(connection.cluster, cluster->second, FilesFor(config, connection.workload));
    if (!found.ok()) return found.status();
    context = *std::move(found);
    peer.acceptsAddress = config.serverNames.empty();
    peer.names = config.serverNames.empty() ? advertisedNames : config.serverNames;
    peer.sentName = SentName(config, advertisedNames);
  }
  return context->NewSession(std::move(peer));
}

absl::Status ClusterTls::Health() const {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, cluster] : clusters_) {
    for (const auto& [certificate, identity] : cluster.identities) {
      if (!identity.problem.ok()) return identity.problem;
    }
  }
  return absl::OkStatus();
}

}  // namespace kveil::proxy
