// How a batch waits for its keys, without holding up any other connection.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "io/loop.h"
#include "io/task.h"
#include "keys/key_cache.h"
#include "policy/policy.h"

namespace kveil::guard {

// Room in a worker's key cache for batches that need very many keys at once. Without it, several of them would go on
// pushing one another's keys out.
class KeyRoom {
 public:
  // For one batch at a time of a workload, while the keys of all together fit. False: try again later.
  bool Enter(const std::string& workload, size_t keys) {
    if (keys_ + keys > kMost && keys_ > 0) return false;
    if (!inside_.try_emplace(workload, keys).second) return false;
    keys_ += keys;
    return true;
  }
  void Leave(const std::string& workload) {
    const auto found = inside_.find(workload);
    keys_ -= found->second;
    inside_.erase(found);
  }

 private:
  // The cache keeps four times its capacity while it is in use; the fourth part is everybody else's.
  static constexpr size_t kMost = 3 * keys::kKeyCacheCapacity;
  absl::flat_hash_map<std::string, size_t> inside_;
  size_t keys_ = 0;  // sum of inside_
};

// What a workload is called where its questions are counted: its unit, else its cgroup.
inline const std::string& NameOf(const policy::Workload& workload) {
  return workload.unit.empty() ? workload.cgroupPath : workload.unit;
}

// Fetches what is missing into the worker's cache, piece by piece, and tries again until `deadline` what cannot be had
// now; each piece is tried once in any case. OK: it is all there, or a batch that needs it all cannot be opened anyway.
// Else (kUnavailable) this has waited a little, so that the caller may simply call it again.
io::Task<absl::Status> FetchKeys(io::Loop& loop, keys::KeyCache& cache, KeyRoom& room, const policy::Workload& workload,
                                 keys::Misses misses, std::chrono::steady_clock::time_point deadline);

}  // namespace kveil::guard
