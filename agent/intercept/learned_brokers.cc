// The map of learned brokers.
#include "intercept/learned_brokers.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "intercept/bpf_map.h"
#include "intercept/endpoint.h"
#include "intercept/heartbeat.h"
#include "intercept/target_table.h"

namespace kveil::intercept {
namespace {

// How long a broker that an earlier agent learned stays at least: by then clients have asked for metadata again.
constexpr std::chrono::minutes kAdoptedLifetime{30};

}  // namespace

absl::Status LearnedBrokers::Adopt() {
  const uint64_t adoptedUntil =
      MonotonicNanoseconds() + static_cast<uint64_t>(std::chrono::nanoseconds(kAdoptedLifetime).count());
  const std::lock_guard lock(mutex_);
  for (const kveil_endpoint& key : KeysOf<kveil_endpoint>(mapFd_)) {
    kveil_learned value;
    if (::bpf_map_lookup_elem(mapFd_, &key, &value) < 0) continue;
    size_t index = 0;
    while (index < targets_.size() && ClusterHash(targets_[index].cluster) != value.cluster) ++index;
    int result = 0;
    if (index == targets_.size()) {
      result = ::bpf_map_delete_elem(mapFd_, &key);
    } else {
      value.target = static_cast<uint16_t>(index);
      value.expires = std::max<uint64_t>(value.expires, adoptedUntil);  // nobody could prolong it while no agent ran
      result = ::bpf_map_update_elem(mapFd_, &key, &value, BPF_EXIST);
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
  value.expires = MonotonicNanoseconds() + static_cast<uint64_t>(std::chrono::nanoseconds(lifetime).count());
  value.cluster = ClusterHash(cluster);
  value.target = targetIndex;
  const std::lock_guard lock(mutex_);
  kveil_learned known;
  if (::bpf_map_lookup_elem(mapFd_, &key, &known) == 0 && known.cluster != value.cluster &&
      known.expires > MonotonicNanoseconds()) {
    return absl::AlreadyExistsError(StrCat("broker ", broker.Text(), ", which cluster ", cluster,
                                           " advertises, was learned as one of cluster ", ClusterOf(known.cluster),
                                           ": add it to /intercept/targets as that of the cluster it belongs to"));
  }
  if (::bpf_map_update_elem(mapFd_, &key, &value, BPF_ANY) == 0) return absl::OkStatus();
  if (errno == E2BIG) {
    RemoveExpiredLocked();
    if (::bpf_map_update_elem(mapFd_, &key, &value, BPF_ANY) == 0) return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(StrCat("cannot learn broker ", broker.Text(), ": ", std::strerror(errno)));
}

std::string LearnedBrokers::ClusterOf(uint32_t hash) const {
  for (const policy::Target& target : targets_) {
    if (ClusterHash(target.cluster) == hash) return target.cluster;
  }
  return "that is not configured";
}

bool LearnedBrokers::Knows(const SocketAddress& broker) {
  const kveil_endpoint key = ToEndpoint(broker);
  kveil_learned value;
  return ::bpf_map_lookup_elem(mapFd_, &key, &value) == 0;
}

void LearnedBrokers::RemoveExpired() {
  const std::lock_guard lock(mutex_);
  RemoveExpiredLocked();
}

void LearnedBrokers::RemoveExpiredLocked() {
  const uint64_t now = MonotonicNanoseconds();
  for (const kveil_endpoint& key : KeysOf<kveil_endpoint>(mapFd_)) {
    kveil_learned value;
    if (::bpf_map_lookup_elem(mapFd_, &key, &value) == 0 && value.expires <= now) ::bpf_map_delete_elem(mapFd_, &key);
  }
}

}  // namespace kveil::intercept
