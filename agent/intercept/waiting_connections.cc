// Sweeps the map of waiting connections.
#include "intercept/waiting_connections.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/text.h"
#include "intercept/bpf_map.h"
#include "intercept/heartbeat.h"

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
  size_t removed = 0;
  std::vector<std::pair<kveil_interim_key, kveil_waiting>> old;
  (void)ForEachEntry(interimFd_, [&](const void* key, const void* value) {
    kveil_waiting waiting;
    std::memcpy(&waiting, value, sizeof(waiting));
    if (waiting.since + static_cast<uint64_t>(age.count()) > now) return;
    std::memcpy(&old.emplace_back(kveil_interim_key{}, waiting).first, key, sizeof(kveil_interim_key));
  });
  for (const auto& [key, waiting] : old) {
    if (::bpf_map_delete_elem(interimFd_, &key) < 0) continue;  // the kernel half was quicker
    for (const uint16_t slot : {waiting.origin.share, waiting.origin.top_share}) {
      if (slot < kSlots) __atomic_fetch_sub(&shares_.get()[slot].waiting, 1, __ATOMIC_RELAXED);
    }
    ++removed;
  }
  return removed;
}

size_t WaitingConnections::size() const { return KeysOf<kveil_interim_key>(interimFd_).size(); }

int64_t WaitingConnections::SumOfCounts() const {
  int64_t sum = 0;
  for (size_t slot = 0; slot < KVEIL_SHARES; ++slot) {
    sum += __atomic_load_n(&shares_.get()[slot].waiting, __ATOMIC_RELAXED);
  }
  return sum;
}

}  // namespace kveil::intercept
