#include "tls/client_tls.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "tls/file_state.h"

namespace kveil::tls {
namespace {

using Mode = config::ClientTlsConfig::Mode;
using ClientCertificate = config::ClientTlsConfig::ClientCertificate;
namespace fs = std::filesystem;

absl::Status OfCluster(const std::string& cluster, const absl::Status& problem) {
  return absl::Status(problem.code(), StrCat("clientTls of cluster ", cluster, ": ", ToStd(problem.message())));
}

// NAME.key and NAME.crt, by name. A NAME.crt alone stands for nobody: Secrets have the authority in ca.crt. Hidden
// files are none: Kubernetes keeps its volumes in them.
absl::StatusOr<std::vector<config::ClientTlsConfig::Files>> FilesIn(const std::string& folder) {
  std::error_code error;
  std::vector<config::ClientTlsConfig::Files> files;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const fs::path& path = entry->path();
    if (path.extension() != ".key" || path.filename().string().starts_with('.')) continue;
    files.push_back({.certificate = fs::path(path).replace_extension(".crt").string(), .key = path.string()});
  }
  if (error) return absl::InvalidArgumentError(StrCat(folder, ": ", error.message()));
  if (files.empty())
    return absl::InvalidArgumentError(StrCat(folder, ": no certificate with its key (NAME.crt, NAME.key) is in it"));
  if (files.size() > config::kMostCertificates) {
    return absl::InvalidArgumentError(
        StrCat(folder, ": more than ", config::kMostCertificates, " certificates are in it"));
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.certificate < b.certificate; });
  return files;
}

absl::StatusOr<io::TlsServerFiles> FilesOf(const config::ClientTlsConfig& config) {
  io::TlsServerFiles files{.identities = {},
                           .clientCa = config.clientCa,
                           .needsCertificate = config.clientCertificate == ClientCertificate::kRequire};
  std::vector<config::ClientTlsConfig::Files> identities = config.certificates;
  if (!config.folder.empty()) {
    ASSIGN_OR_RETURN(identities, FilesIn(config.folder));
  }
  for (auto& [certificate, key] : identities) files.identities.push_back({std::move(certificate), std::move(key)});
  return files;
}

std::string StateOf(const config::ClientTlsConfig& config) {
  const absl::StatusOr<io::TlsServerFiles> files = FilesOf(config);
  if (!files.ok()) return std::string(files.status().message());
  std::string state = StateOfFile(files->clientCa);
  for (const auto& [certificate, key] : files->identities) {
    StrAppend(&state, certificate, " ", StateOfFile(certificate), StateOfFile(key));
  }
  return state;
}

}  // namespace

absl::StatusOr<ClientTls::Context> ClientTls::Read(const Cluster& cluster) {
  const absl::StatusOr<io::TlsServerFiles> files = FilesOf(cluster.config);
  if (!files.ok()) return OfCluster(cluster.name, files.status());
  absl::StatusOr<Context> context = io::TlsServerContext::Load(*files, cluster.config.version12);
  if (!context.ok()) return OfCluster(cluster.name, context.status());
  return context;
}

absl::StatusOr<std::unique_ptr<ClientTls>> ClientTls::Load(const std::vector<config::ClusterConfig>& clusters,
                                                           std::chrono::milliseconds renewed) {
  std::unique_ptr<ClientTls> loaded(new ClientTls(renewed));
  for (const config::ClusterConfig& config : clusters) {
    auto& cluster = loaded->clusters_[config.name];
    cluster = std::make_unique<Cluster>(config.name, config.clientTls);
    if (config.clientTls.mode != Mode::kTerminate) continue;
    cluster->state = StateOf(config.clientTls);
    cluster->madeAt = Clock::now();
    ASSIGN_OR_RETURN(Context context, Read(*cluster));
    const MutexLock lock(cluster->mutex);
    cluster->context = std::move(context);
  }
  return loaded;
}

Mode ClientTls::ModeOf(const std::string& cluster) const {
  const auto found = clusters_.find(cluster);
  return found == clusters_.end() ? Mode::kRefuse : found->second->config.mode;
}

bool ClientTls::NeedsCertificate(const std::string& cluster) const {
  const auto found = clusters_.find(cluster);
  return found != clusters_.end() && found->second->config.clientCertificate == ClientCertificate::kRequire;
}

absl::StatusOr<std::unique_ptr<io::TlsSession>> ClientTls::NewSession(
    const std::string& clusterName, const SocketAddress& broker,
    const std::vector<std::string>& advertisedNames) const {
  const auto cluster = clusters_.find(clusterName);
  Context context;
  if (cluster != clusters_.end()) {
    const MutexLock lock(cluster->second->mutex);
    context = cluster->second->context;
  }
  if (context == nullptr) return absl::InternalError(StrCat("cluster ", clusterName, " does not terminate TLS"));
  return context->NewSession({.names = advertisedNames, .acceptsAddress = true, .sentName = "", .address = broker});
}

void ClientTls::LookAgain() {
  for (const auto& [name, cluster] : clusters_) {
    if (cluster->config.mode == Mode::kTerminate) LookAgainAt(*cluster);
  }
}

void ClientTls::LookAgainAt(Cluster& cluster) const {
  std::string state = StateOf(cluster.config);
  absl::Status problem;
  Context inForce;
  {
    const MutexLock lock(cluster.mutex);
    problem = cluster.problem;
    inForce = cluster.context;
  }
  Context fresh;
  // What could not be used may have failed for a reason that passes.
  if (state != cluster.state || !problem.ok()) {
    absl::StatusOr<Context> read = Read(cluster);  // without a lock, so that no connection waits
    if (read.ok()) {
      log::Info("clientTls.reloaded", {{"cluster", cluster.name}});
      fresh = *read;
    } else if (read.status() != problem) {
      log::Error("clientTls.refused", {{"cluster", cluster.name}, {"reason", read.status()}});
    }
    problem = read.status();
    cluster.state = std::move(state);
  }
  if (fresh == nullptr && Clock::now() - cluster.madeAt >= renewed_) {
    absl::StatusOr<Context> renewed = inForce->Renewed();
    if (renewed.ok()) fresh = *std::move(renewed);
  }
  if (fresh != nullptr) cluster.madeAt = Clock::now();
  const MutexLock lock(cluster.mutex);
  cluster.problem = problem;
  if (fresh != nullptr) cluster.context = std::move(fresh);
}

absl::Status ClientTls::Health() const {
  for (const auto& [name, cluster] : clusters_) {
    const MutexLock lock(cluster->mutex);
    if (!cluster->problem.ok()) return cluster->problem;
    const std::string outdated = cluster->context == nullptr ? "" : cluster->context->Outdated();
    if (!outdated.empty()) return OfCluster(name, absl::FailedPreconditionError(outdated));
  }
  return absl::OkStatus();
}

}  // namespace kveil::tls
