// The brokers that responses advertised outside the configured targets. A broker that is neither named again nor
// connected to for its lifetime expires: connects to it are refused from then on, because its address may belong to
// somebody else by now. The agent still knows the address; connects to one it does not know would go out in the clear.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "intercept/kernel/target_table.h"

namespace kveil::intercept {

class LearnedBrokers {
 public:
  // Does not own `mapFd` or `targets`, those of the configuration.
  LearnedBrokers(int mapFd, absl::Span<const config::Target> targets) : mapFd_(mapFd), targets_(targets) {}

  // Keeps what an earlier agent learned, under the index that its cluster has now. Removes brokers of clusters that are
  // no longer configured, and those that are configured targets. `lastHeartbeat` is that agent's: what had expired by
  // then stays expired, and refused. kInternal: an entry could be neither kept nor removed.
  absl::Status Adopt(const TargetTable& configured, uint64_t lastHeartbeat);
  // In force for `lifetime` from now. Until it expires, an address belongs to one cluster. kAlreadyExists: it is
  // another's, and one cluster's response must not end what another is promised (TLS, its keys). kResourceExhausted:
  // the cluster has as many brokers as it may have, including expired ones.
  absl::Status Learn(const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime);
  // Keeps a broker in force because a connection to it was accepted. Returns its target, or nullopt if it was not
  // learned or has expired.
  std::optional<uint16_t> Use(const SocketAddress& broker);
  bool Knows(const SocketAddress& broker) const;  // in force or expired
  // kResourceExhausted names a cluster that cannot learn any more.
  absl::Status Health() const;

 private:
  absl::Status Full(const std::string& cluster) const;
  std::string ClusterOf(uint32_t hash) const;

  const int mapFd_;
  const absl::Span<const config::Target> targets_;
  // An entry must not change between lookup and update.
  mutable Mutex mutex_;
  absl::flat_hash_map<uint32_t, size_t> counts_ ABSL_GUARDED_BY(mutex_);  // of entries, by the cluster's hash
};

}  // namespace kveil::intercept
