// TLS from applications, for the clusters that terminate it: the certificates that stand for the brokers' names. Files
// are read again when they change.
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
#include "io/tls_server_context.h"

namespace kveil::tls {

// Any thread. Connections use what is in memory.
class ClientTls {
 public:
  // Reads every file once. kInvalidArgument names the cluster and the file. Keys of session tickets are renewed after
  // `renewed`, also while a file cannot be used.
  static absl::StatusOr<std::unique_ptr<ClientTls>> Load(const std::vector<config::ClusterConfig>& clusters,
                                                         std::chrono::milliseconds renewed = std::chrono::hours(1));

  config::ClientTlsConfig::Mode ModeOf(const std::string& cluster) const;
  // Whether a cluster refuses applications that show no certificate, and so also those that do not speak TLS.
  bool NeedsCertificate(const std::string& cluster) const;

  // The server's side of TLS for an application that wants to reach `broker`, whose host names are `advertisedNames`.
  // Only for a cluster that terminates TLS.
  absl::StatusOr<std::unique_ptr<io::TlsSession>> NewSession(const std::string& cluster, const SocketAddress& broker,
                                                             const std::vector<std::string>& advertisedNames) const;

  // Reads the files of a cluster again, all of them, when one has changed or could not be used. Call it about once a
  // second, on one thread. What cannot be used leaves in force what was read before.
  void LookAgain();

  // OK, or which file cannot be used, or has a certificate that is not valid now.
  absl::Status Health() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Context = std::shared_ptr<const io::TlsServerContext>;

  struct Cluster {
    Cluster(std::string name, config::ClientTlsConfig config) : name(std::move(name)), config(std::move(config)) {}
    const std::string name;
    const config::ClientTlsConfig config;
    mutable Mutex mutex;
    Context context ABSL_GUARDED_BY(mutex);  // nullptr: it does not terminate TLS
    absl::Status problem ABSL_GUARDED_BY(mutex);
    std::string state;         // of the files when they were read, to see changes; LookAgain's
    Clock::time_point madeAt;  // what is in force, with its keys of tickets
  };

  explicit ClientTls(std::chrono::milliseconds renewed) : renewed_(renewed) {}
  static absl::StatusOr<Context> Read(const Cluster& cluster);
  void LookAgainAt(Cluster& cluster) const;

  const std::chrono::milliseconds renewed_;
  absl::flat_hash_map<std::string, std::unique_ptr<Cluster>> clusters_;  // the same after Load
};

}  // namespace kveil::tls
