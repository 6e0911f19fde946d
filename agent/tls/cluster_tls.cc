#include "tls/cluster_tls.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "tls/file_state.h"

namespace kveil::tls {
namespace {

std::string StateOf(const io::TlsFiles& files) {
  return StrCat(StateOfFile(files.ca), StateOfFile(files.certificate), StateOfFile(files.key), StateOfFile(files.crl));
}

absl::Status OfCluster(const std::string& cluster, const absl::Status& problem) {
  return absl::Status(problem.code(), StrCat("TLS of cluster ", cluster, ": ", ToStd(problem.message())));
}

// OK when there is a folder.
absl::Status CheckFolder(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return absl::InvalidArgumentError(StrCat(path, ": ", std::strerror(errno)));
  if (!S_ISDIR(info.st_mode)) return absl::InvalidArgumentError(StrCat(path, ": is no folder"));
  return absl::OkStatus();
}

// Whose certificate an application's own stands for: "CN=orders" for the common name "orders". No unit has such a name.
// Empty: there can be no such file.
std::string NameInIdentities(std::string_view commonName) {
  const bool isPlain =
      !commonName.empty() && commonName.size() <= 64 && std::all_of(commonName.begin(), commonName.end(), [](char c) {
        return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' || c == '@';
      });
  return isPlain ? StrCat("CN=", commonName) : "";
}

// The application's certificate is good, but gives it no rights.
absl::Status NoRights(const std::string& cluster, const io::TlsOwner& application, std::string_view why) {
  constexpr size_t kMostOfSubject = 256;  // it may be as long as the certificate
  const std::string_view subject = std::string_view(application.subject).substr(0, kMostOfSubject);
  return OfCluster(cluster, absl::PermissionDeniedError(
                                StrCat("the application has shown a certificate of ", subject, ", but ", why)));
}

// Common names are not unique: the same one of another department is someone else.
absl::Status CheckSubject(const std::string& cluster, const io::TlsOwner& application, const std::string& certificate,
                          const std::string& subject) {
  if (subject == application.subject) return absl::OkStatus();
  return NoRights(cluster, application, StrCat(certificate, " is of ", subject));
}

// The name for the greeting: what the cluster calls the broker now, or the only name that is configured.
std::string SentName(const config::TlsConfig& config, const std::vector<std::string>& advertisedNames) {
  if (!advertisedNames.empty()) return advertisedNames.front();
  if (config.serverNames.size() == 1 && !config.serverNames.front().starts_with('.')) return config.serverNames.front();
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<ClusterTls>> ClusterTls::Load(const std::vector<config::ClusterConfig>& clusters,
                                                             std::chrono::milliseconds unused) {
  std::unique_ptr<ClusterTls> loaded(new ClusterTls(unused));
  for (const config::ClusterConfig& config : clusters) {
    if (!config.tls.has_value()) continue;
    auto& cluster = loaded->clusters_[config.name];
    cluster = std::make_unique<Cluster>(config.name, *config.tls);
    if (!config.tls->identities.empty()) {
      const absl::Status folder = CheckFolder(config.tls->identities);
      if (!folder.ok()) return OfCluster(config.name, folder);
    }
    const auto context = ContextFor(
        *cluster,
        {.ca = config.tls->ca, .certificate = config.tls->certificate, .key = config.tls->key, .crl = config.tls->crl});
    if (!context.ok()) return context.status();
  }
  return loaded;
}

// A workload shows the agent's certificate only when it is certain that it has none of its own: otherwise it would have
// the rights of another.
absl::StatusOr<io::TlsFiles> ClusterTls::FilesFor(const Cluster& cluster, const identity::Workload& workload,
                                                  const io::TlsOwner& application) {
  const config::TlsConfig& config = cluster.config;
  io::TlsFiles files{.ca = config.ca, .certificate = config.certificate, .key = config.key, .crl = config.crl};
  if (config.identities.empty()) return files;
  if (workload.cgroupPath.empty()) {
    return OfCluster(cluster.name, absl::UnavailableError(StrCat("which workload this is, and so which certificate of ",
                                                                 config.identities, " it has, is not known")));
  }
  // It is whom its certificate names: neither its unit nor the agent.
  const bool isNamed = !application.subject.empty();
  const std::string name = isNamed ? NameInIdentities(application.commonName) : workload.unit;
  if (isNamed && name.empty()) {
    return NoRights(cluster.name, application,
                    StrCat("its common name cannot be one in ", config.identities,
                           ": it needs exactly one, of up to 64 letters, digits, '.', '_', '-', '@'"));
  }
  if (!name.empty()) {
    const std::string own = StrCat(config.identities, "/", name);
    struct stat info;
    if (::stat((own + ".crt").c_str(), &info) == 0) {
      files.certificate = own + ".crt";
      files.key = own + ".key";
      return files;
    }
    if (errno != ENOENT) {
      return OfCluster(cluster.name, absl::UnavailableError(StrCat(own, ".crt: ", std::strerror(errno))));
    }
    if (isNamed) return NoRights(cluster.name, application, StrCat("there is no ", own, ".crt to show to the broker"));
  }
  const absl::Status folder = CheckFolder(config.identities);  // without it, nobody would have a file
  if (!folder.ok()) return OfCluster(cluster.name, folder);
  return files;
}

void ClusterTls::Read(const Cluster& cluster, Identity& identity, std::string state) {
  identity.state = std::move(state);
  absl::StatusOr<Context> context = io::TlsContext::Load(identity.files, cluster.config.version12);
  if (context.ok()) {
    identity.context = *std::move(context);
    identity.problem = absl::OkStatus();
    return;
  }
  const absl::Status problem = OfCluster(cluster.name, context.status());
  if (problem == identity.problem) return;
  identity.problem = problem;
  log::Error("tls.refused", {{"cluster", cluster.name}, {"reason", context.status()}});
}

absl::StatusOr<ClusterTls::Context> ClusterTls::ContextFor(Cluster& cluster, const io::TlsFiles& files) {
  std::shared_ptr<Identity> identity;
  {
    const MutexLock lock(cluster.mutex);
    std::shared_ptr<Identity>& known = cluster.identities[files.certificate];
    if (known == nullptr) known = std::make_shared<Identity>(files);
    identity = known;
  }
  const MutexLock lock(identity->mutex);
  identity->usedAt = Clock::now();
  if (identity->context == nullptr && identity->problem.ok()) Read(cluster, *identity, StateOf(files));
  if (identity->context == nullptr) return identity->problem;
  return identity->context;
}

std::vector<std::shared_ptr<ClusterTls::Identity>> ClusterTls::IdentitiesOf(const Cluster& cluster) {
  std::vector<std::shared_ptr<Identity>> identities;
  const MutexLock lock(cluster.mutex);
  for (const auto& [certificate, identity] : cluster.identities) identities.push_back(identity);
  return identities;
}

void ClusterTls::LookAgain() {
  for (const auto& [name, cluster] : clusters_) {
    for (const std::shared_ptr<Identity>& identity : IdentitiesOf(*cluster)) LookAgainAt(*cluster, identity);
  }
}

void ClusterTls::LookAgainAt(Cluster& cluster, const std::shared_ptr<Identity>& identity) {
  const io::TlsFiles& files = identity->files;
  std::string state = StateOf(files);
  struct stat info;
  const bool isOwn = files.certificate != cluster.config.certificate;  // of a workload
  const bool isGone = isOwn && ::stat(files.certificate.c_str(), &info) != 0 && errno == ENOENT;
  Identity fresh(files);  // read without a lock, so that no connection waits
  const MutexLock reading(fresh.mutex);
  if (!identity->mutex.try_lock()) return;  // a connection reads it just now
  const bool isUnused = isOwn && Clock::now() - identity->usedAt > unused_;
  // What could not be used may have failed for a reason that passes.
  const bool isUpToDate = state == identity->state && identity->problem.ok();
  fresh.problem = identity->problem;
  identity->mutex.unlock();
  if (isGone || isUnused) {
    const MutexLock lock(cluster.mutex);
    cluster.identities.erase(files.certificate);
    return;
  }
  if (isUpToDate) return;
  Read(cluster, fresh, std::move(state));
  if (fresh.context != nullptr) {
    log::Info("tls.reloaded", {{"cluster", cluster.name}, {"certificate", files.certificate}});
  }
  const MutexLock lock(identity->mutex);
  identity->state = std::move(fresh.state);
  identity->problem = std::move(fresh.problem);
  if (fresh.context != nullptr) identity->context = std::move(fresh.context);
}

absl::StatusOr<std::unique_ptr<io::TlsSession>> ClusterTls::NewSession(const std::string& clusterName,
                                                                       const SocketAddress& broker,
                                                                       const identity::Workload& workload,
                                                                       const std::vector<std::string>& advertisedNames,
                                                                       const io::TlsOwner& application) {
  const auto cluster = clusters_.find(clusterName);
  if (cluster == clusters_.end()) return nullptr;
  const absl::StatusOr<io::TlsFiles> files = FilesFor(*cluster->second, workload, application);
  if (!files.ok()) return files.status();
  const absl::StatusOr<Context> context = ContextFor(*cluster->second, *files);
  if (!context.ok()) return context.status();
  const config::TlsConfig& config = cluster->second->config;
  if (!config.identities.empty() && !application.subject.empty()) {
    RETURN_IF_ERROR(CheckSubject(clusterName, application, files->certificate, (*context)->Subject()));
  }
  io::TlsPeer peer;
  peer.address = broker;
  peer.acceptsAddress = config.serverNames.empty();
  peer.names = config.serverNames.empty() ? advertisedNames : config.serverNames;
  peer.sentName = SentName(config, advertisedNames);
  return (*context)->NewSession(std::move(peer));
}

absl::Status ClusterTls::Health() const {
  for (const auto& [name, cluster] : clusters_) {
    for (const std::shared_ptr<Identity>& identity : IdentitiesOf(*cluster)) {
      if (!identity->mutex.try_lock()) continue;  // it is being read
      const absl::Status problem = identity->problem;
      identity->mutex.unlock();
      if (!problem.ok()) return problem;
    }
  }
  return absl::OkStatus();
}

}  // namespace kveil::tls
