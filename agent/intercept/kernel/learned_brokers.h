// The brokers that responses advertised outside the configured targets. One that is neither named again nor connected
// to for its lifetime expires: connects to it are refused from then on, because its address may be somebody else's by
// now. It never becomes an address that the agent does not know of, which would be spoken to in the clear.
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
  // `mapFd` and `targets`, those of the configuration, stay their owner's.
  LearnedBrokers(int mapFd, absl::Span<const config::Target> targets) : mapFd_(mapFd), targets_(targets) {}

  // What an earlier agent learned stays in force, under the index that its cluster has now, whatever index the entry
  // was written with. That of a cluster that is configured no more goes, and so does what is a target by configuration.
  // An error: an entry could be neither. What had expired by the last heartbeat of that agent stays expired: refused.
  absl::Status Adopt(const TargetTable& configured, uint64_t lastHeartbeat);
  // In force for `lifetime` from now. An address is one cluster's until it expires: kAlreadyExists when it is
  // another's, because what that cluster is promised (TLS, its keys) must not end with a word of this one.
  // kResourceExhausted when the cluster has as many as it may have, expired ones among them.
  absl::Status Learn(const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime);
  // A connection to `broker` was accepted: it stays in force. Its target, or nullopt when it was not learned or has
  // expired.
  std::optional<uint16_t> Use(const SocketAddress& broker);
  bool Knows(const SocketAddress& broker) const;  // in force or expired
  // An error names the clusters that cannot learn any more.
  absl::Status Health() const;

 private:
  absl::Status Full(const std::string& cluster) const;
  std::string ClusterOf(uint32_t hash) const;

  const int mapFd_;
  const absl::Span<const config::Target> targets_;
  // An entry must not change between being looked at and being written.
  mutable Mutex mutex_;
  absl::flat_hash_map<uint32_t, size_t> counts_ ABSL_GUARDED_BY(mutex_);  // of entries, by the cluster's hash
};

}  // namespace kveil::intercept
