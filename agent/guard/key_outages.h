// The topics of which some record came and did not open because its key cannot be reached now.
//
// Every record that the broker hands out to a share group and that does not come to be read counts as a try, and after
// five it is given up. So nothing more of such a topic is asked for until the keys that were missing can be had.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/text.h"
#include "keys/key_service.h"

namespace kveil::guard {

// One for all connections. Any thread.
class KeyOutages {
 public:
  // False nearly always, and then nothing needs to be asked.
  bool any() const { return count_.load(std::memory_order_acquire) != 0; }

  // `missing` are keys of the topic that could not be had.
  void Began(std::string_view topic, keys::Misses missing) {
    const std::lock_guard lock(mutex_);
    missing_[ToAbsl(topic)] = std::move(missing);
    count_.store(missing_.size(), std::memory_order_release);
  }
  // Keys that have to be had first; nothing when there is no outage.
  std::optional<keys::Misses> Find(std::string_view topic) const {
    const std::lock_guard lock(mutex_);
    const auto found = missing_.find(ToAbsl(topic));
    if (found == missing_.end()) return std::nullopt;
    return found->second;
  }
  void Ended(std::string_view topic) {
    const std::lock_guard lock(mutex_);
    missing_.erase(ToAbsl(topic));
    count_.store(missing_.size(), std::memory_order_release);
  }

 private:
  std::atomic<size_t> count_{0};
  mutable std::mutex mutex_;
  absl::flat_hash_map<std::string, keys::Misses> missing_ ABSL_GUARDED_BY(mutex_);  // topics that policy protects
};

}  // namespace kveil::guard
