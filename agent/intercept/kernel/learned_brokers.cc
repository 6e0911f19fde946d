// Reads and writes the map of learned brokers.
#include "intercept/kernel/learned_brokers.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/mutex.h"
#include "base/text.h"
#include "intercept/kernel/bpf_map.h"
#include "intercept/kernel/endpoint.h"
#include "intercept/kernel/heartbeat.h"
#include "intercept/kernel/target_table.h"

namespace kveil::intercept {
namespace {

// How long a broker stays in force that an earlier agent learned, or that was connected to: by then clients have asked
// for metadata again.
constexpr std::chrono::minutes kLifetime{30};
// An entry with nearly as long to live is not written again for each connection.
constexpr std::chrono::seconds kSlack{30};

uint64_t After(std::chrono::nanoseconds time) { return MonotonicNanoseconds() + static_cast<uint64_t>(time.count()); }

}  // namespace

absl::Status LearnedBrokers::Adopt(const TargetTable& configured, uint64_t lastHeartbeat) {
  const uint64_t adoptedUntil = After(kLifetime);
  const MutexLock lock(mutex_);
  for (const kveil_endpoint& key : KeysOf<kveil_endpoint>(mapFd_)) {
    kveil_learned value;
    if (::bpf_map_lookup_elem(mapFd_, &key, &value) < 0) continue;
    size_t index = 0;
    while (index < targets_.size() && ClusterHash(targets_[index].cluster) != value.cluster) ++index;
    int result = 0;
    if (index == targets_.size() || configured.Find(ToSocketAddress(key)).has_value()) {
      result = ::bpf_map_delete_elem(mapFd_, &key);
    } else {
      value.target = static_cast<uint16_t>(index);
      // Nothing could prolong it while no agent ran. What had expired before stays expired.
      if (value.expires > lastHeartbeat) value.expires = std::max<uint64_t>(value.expires, adoptedUntil);
      result = ::bpf_map_update_elem(mapFd_, &key, &value, BPF_EXIST);
      ++counts_[value.cluster];
    }
    // Left as it is, it would be a broker of whatever cluster has its old index now.
    if (result != 0) return absl::InternalError(StrCat("cannot adopt a learned broker: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status LearnedBrokers::Learn(const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime) {
  const kveil_endpoint key = ToEndpoint(broker);
  const std::string& cluster = targets_[targetIndex].cluster;
  kveil_learned value = {};
  value.expires = After(lifetime);
  value.cluster = ClusterHash(cluster);
  value.target = targetIndex;
  const MutexLock lock(mutex_);
  kveil_learned known;
  const bool isKnown = ::bpf_map_lookup_elem(mapFd_, &key, &known) == 0;
  if (isKnown && known.cluster != value.cluster && known.expires > MonotonicNanoseconds()) {
    return absl::AlreadyExistsError(StrCat("broker ", broker.Text(), ", which cluster ", cluster,
                                           " advertises, was learned as one of cluster ", ClusterOf(known.cluster),
                                           ": add it to /intercept/targets as that of the cluster it belongs to"));
  }
  size_t& count = counts_[value.cluster];
  const bool isNewToCluster = !isKnown || known.cluster != value.cluster;
  if (isNewToCluster && count >= KVEIL_MAX_LEARNED_OF_CLUSTER) return Full(cluster);
  if (::bpf_map_update_elem(mapFd_, &key, &value, BPF_ANY) < 0) {
    return absl::ResourceExhaustedError(StrCat("cannot learn broker ", broker.Text(), ": ", std::strerror(errno)));
  }
  if (isNewToCluster) ++count;
  if (isNewToCluster && isKnown) --counts_[known.cluster];
  return absl::OkStatus();
}

absl::Status LearnedBrokers::Full(const std::string& cluster) const {
  return absl::ResourceExhaustedError(
      StrCat("cluster ", cluster, " has ", int{KVEIL_MAX_LEARNED_OF_CLUSTER},
             " learned brokers, as many as it may have: responses that name another one are not passed on. Add the "
             "network that they come from to /intercept/targets and restart the agent"));
}

std::optional<uint16_t> LearnedBrokers::Use(const SocketAddress& broker) {
  const kveil_endpoint key = ToEndpoint(broker);
  const MutexLock lock(mutex_);
  kveil_learned value;
  if (::bpf_map_lookup_elem(mapFd_, &key, &value) < 0 || value.target >= targets_.size() ||
      value.expires <= MonotonicNanoseconds()) {
    return std::nullopt;
  }
  if (value.expires < After(kLifetime - kSlack)) {
    value.expires = After(kLifetime);
    (void)::bpf_map_update_elem(mapFd_, &key, &value, BPF_EXIST);
  }
  return value.target;
}

absl::Status LearnedBrokers::Health() const {
  const MutexLock lock(mutex_);
  for (const auto& [hash, count] : counts_) {
    if (count >= KVEIL_MAX_LEARNED_OF_CLUSTER) return Full(ClusterOf(hash));
  }
  return absl::OkStatus();
}

std::string LearnedBrokers::ClusterOf(uint32_t hash) const {
  for (const config::Target& target : targets_) {
    if (ClusterHash(target.cluster) == hash) return target.cluster;
  }
  return "that is not configured";
}

bool LearnedBrokers::Knows(const SocketAddress& broker) const {
  const kveil_endpoint key = ToEndpoint(broker);
  kveil_learned value;
  return ::bpf_map_lookup_elem(mapFd_, &key, &value) == 0;
}

}  // namespace kveil::intercept
