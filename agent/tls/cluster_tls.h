// TLS to the brokers of the clusters that are configured for it: whom to trust, and which certificate each workload
// shows. Files are read again when they change.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "identity/workload.h"
#include "io/tls_context.h"

namespace kveil::tls {

// Any thread. Connections use what is in memory. Only the first connection of a workload with its own certificate reads
// files, and it waits for no other workload's.
class ClusterTls {
 public:
  // Reads every file once. kInvalidArgument names the cluster and the file. A workload's certificate that no connection
  // has used for `unused` is forgotten, together with what is wrong with it.
  static absl::StatusOr<std::unique_ptr<ClusterTls>> Load(const std::vector<config::ClusterConfig>& clusters,
                                                          std::chrono::milliseconds unused = std::chrono::minutes(10));

  // Whether a cluster's brokers are reached over TLS.
  bool IsUsedBy(const std::string& cluster) const { return clusters_.contains(cluster); }

  // Returns the session for a connection to a broker, or nullptr if the cluster uses plain TCP. `advertisedNames` are
  // the host names under which the cluster advertises the broker, the latest first. `application`: what the certificate
  // says that the application has shown to the agent. Where there are `identities`, it has the rights of the
  // certificate there with the same subject, and of no other. Fails if it is not known which certificate to show, or if
  // that cannot be used; kPermissionDenied: `identities` has none for the application's.
  absl::StatusOr<std::unique_ptr<io::TlsSession>> NewSession(const std::string& cluster, const SocketAddress& broker,
                                                             const identity::Workload& workload,
                                                             const std::vector<std::string>& advertisedNames,
                                                             const io::TlsOwner& application = {});

  // Reads files again that have changed or could not be used, and forgets what is not used. Call it about once a
  // second, on one thread. If a changed file cannot be used, what was read before stays in force.
  void LookAgain();

  // OK, or which file cannot be used.
  absl::Status Health() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Context = std::shared_ptr<io::TlsContext>;

  // One set of files, as they were when they were read.
  struct Identity {
    explicit Identity(io::TlsFiles files) : files(std::move(files)) {}
    const io::TlsFiles files;
    mutable Mutex mutex;
    std::string state ABSL_GUARDED_BY(mutex);  // to see changes
    Context context ABSL_GUARDED_BY(mutex);    // nullptr: never could be used
    absl::Status problem ABSL_GUARDED_BY(mutex);
    Clock::time_point usedAt ABSL_GUARDED_BY(mutex) = Clock::now();
  };
  struct Cluster {
    Cluster(std::string name, config::TlsConfig config) : name(std::move(name)), config(std::move(config)) {}
    const std::string name;
    const config::TlsConfig config;
    mutable Mutex mutex;
    // By the certificate's path. One that is being read holds its own lock, not this.
    absl::flat_hash_map<std::string, std::shared_ptr<Identity>> identities ABSL_GUARDED_BY(mutex);
  };

  explicit ClusterTls(std::chrono::milliseconds unused) : unused_(unused) {}
  static absl::StatusOr<io::TlsFiles> FilesFor(const Cluster& cluster, const identity::Workload& workload,
                                               const io::TlsOwner& application);
  static absl::StatusOr<io::TlsFiles> FilesForApplication(const Cluster& cluster, const io::TlsOwner& application);
  static absl::StatusOr<Context> ContextFor(Cluster& cluster, const io::TlsFiles& files);
  static void Read(const Cluster& cluster, Identity& identity, std::string state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(identity.mutex);
  static std::vector<std::shared_ptr<Identity>> IdentitiesOf(const Cluster& cluster);
  void LookAgainAt(Cluster& cluster, const std::shared_ptr<Identity>& identity);

  const std::chrono::milliseconds unused_;
  absl::flat_hash_map<std::string, std::unique_ptr<Cluster>> clusters_;  // those with TLS; the same after Load
};

}  // namespace kveil::tls
