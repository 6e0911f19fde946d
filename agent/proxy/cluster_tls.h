// TLS towards the brokers of the clusters that are configured for it: whom to trust, which certificate each workload
// shows, and files that are read again when they change.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/tls_context.h"
#include "policy/config.h"
#include "proxy/interceptor.h"

namespace kveil::proxy {

// Any thread.
class ClusterTls {
 public:
  // Reads every file once; kInvalidArgument names the cluster and the file.
  static absl::StatusOr<std::unique_ptr<ClusterTls>> Load(const std::vector<policy::ClusterConfig>& clusters);

  // Whether a cluster's brokers are reached over TLS.
  bool IsUsedBy(const std::string& cluster) const;

  // For a connection's way to its broker; nullptr where that is plain TCP. `advertisedNames` are the host names under
  // which the cluster advertises the broker, the latest first. An error: the certificate of this workload cannot be
  // read.
  absl::StatusOr<std::unique_ptr<io::TlsSession>> NewSession(const ConnectionInfo& connection,
                                                             const std::vector<std::string>& advertisedNames);

  // OK, or which changed file cannot be used; what it had before stays in force.
  absl::Status Health() const;

 private:
  // One set of files, as they were when they were read.
  struct Identity {
    std::string state;  // to see changes
    std::shared_ptr<io::TlsContext> context;
    absl::Status problem;
    std::chrono::steady_clock::time_point lookedAt;
  };
  struct Cluster {
    policy::TlsConfig config;
    absl::flat_hash_map<std::string, Identity> identities;  // by the certificate's path
  };

  ClusterTls() = default;
  static io::TlsFiles FilesFor(const policy::TlsConfig& config, const policy::Workload& workload);
  absl::StatusOr<std::shared_ptr<io::TlsContext>> ContextFor(const std::string& name, Cluster& cluster,
                                                             const io::TlsFiles& files)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable std::mutex mutex_;
  absl::flat_hash_map<std::string, Cluster> clusters_ ABSL_GUARDED_BY(mutex_);  // those with TLS
};

}  // namespace kveil::proxy
