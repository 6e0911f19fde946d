// Sweeps the map of waiting connections.
#include "intercept/kernel/waiting_connections.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/text.h"
#include "intercept/kernel/bpf_map.h"
#include "intercept/kernel/heartbeat.h"

namespace kveil::intercept {
namespace {

constexpr size_t kSlots = KVEIL_SHARES + KVEIL_TOP_SHARES;
constexpr size_t kBytes = kSlots * sizeof(kveil_share);

}  // namespace

void WaitingConnections::Unmap::operator()(kveil_share* shares) const { ::munmap(shares, kBytes); }

absl::StatusOr<WaitingConnections> WaitingConnections::Open(int interimFd, int sharesFd) {
  void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, sharesFd, 0);
  if (memory == MAP_FAILED) {
    return absl::ResourceExhaustedError(StrCat("cannot map the workloads' shares: ", std::strerror(errno)));
  }
  return WaitingConnections(interimFd, static_cast<kveil_share*>(memory));
}

size_t WaitingConnections::RemoveOlderThan(std::chrono::nanoseconds age) const {
  const uint64_t now = MonotonicNanoseconds();
  const auto isOld = [&](const kveil_waiting& waiting) {
    return waiting.since + static_cast<uint64_t>(age.count()) <= now;
  };
  size_t removed = 0;
  std::vector<kveil_interim_key> old;
  (void)ForEachEntry(interimFd_, [&](const void* key, const void* value) {
    kveil_waiting waiting;
    std::memcpy(&waiting, value, sizeof(waiting));
    if (isOld(waiting)) std::memcpy(&old.emplace_back(), key, sizeof(kveil_interim_key));
  });
  for (const kveil_interim_key& key : old) {
    kveil_waiting waiting;
    if (::bpf_map_lookup_and_delete_elem(interimFd_, &key, &waiting) < 0) continue;  // the kernel half was quicker
    // Another connection may have the key by now, and waits on.
    if (!isOld(waiting) && ::bpf_map_update_elem(interimFd_, &key, &waiting, BPF_NOEXIST) == 0) continue;
    Uncount(waiting);
    ++removed;
  }
  return removed;
}

void WaitingConnections::Uncount(const kveil_waiting& waiting) const {
  for (const uint16_t slot : {waiting.origin.share, waiting.origin.top_share}) {
    if (slot < kSlots) __atomic_fetch_sub(&shares_.get()[slot].waiting, 1, __ATOMIC_RELAXED);
  }
}

std::vector<int32_t> WaitingConnections::Drift() const {
  std::vector<int32_t> drift(kSlots);
  for (size_t slot = 0; slot < kSlots; ++slot) {
    drift[slot] = __atomic_load_n(&shares_.get()[slot].waiting, __ATOMIC_RELAXED);
  }
  (void)ForEachEntry(interimFd_, [&](const void*, const void* value) {
    kveil_waiting waiting;
    std::memcpy(&waiting, value, sizeof(waiting));
    for (const uint16_t slot : {waiting.origin.share, waiting.origin.top_share}) {
      if (slot < kSlots) --drift[slot];
    }
  });
  return drift;
}

// Connections come and go meanwhile. What two looks at the same slot agree on is no passing difference.
void WaitingConnections::Recount() const {
  const std::vector<int32_t> before = Drift(), after = Drift();
  for (size_t slot = 0; slot < kSlots; ++slot) {
    if (before[slot] == 0 || before[slot] != after[slot]) continue;
    __atomic_fetch_sub(&shares_.get()[slot].waiting, before[slot], __ATOMIC_RELAXED);
  }
}

}  // namespace kveil::intercept
