// Which batches may fill a worker's key cache at a time.
#pragma once

#include <string>

#include "absl/container/flat_hash_map.h"
#include "keys/key_cache.h"

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

}  // namespace kveil::guard
