// Topics with a record that could not be opened because its key cannot be reached now.
//
// When the broker hands out a record to a share group and the record is not read, that counts as a try, and after five
// tries the broker gives it up. So nothing more of such a topic is asked for until its missing keys can be reached.
// What stops only some of the readers does not belong here.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "guard/worker/needs.h"

namespace kveil::guard {

// All connections share it. Any thread may call.
class KeyOutages {
 public:
  using Clock = std::chrono::steady_clock;

  // False nearly always. Then no topic needs to be looked up.
  bool any() const { return count_.load(std::memory_order_acquire) != 0; }

  // `missing` are keys of the topic that could not be reached.
  void Began(std::string_view cluster, std::string_view topic, Needs missing, Clock::time_point now) {
    const MutexLock lock(mutex_);
    // Some of them tell as much as all.
    missing_.Put(KeyOf(cluster, topic), missing.TakeSome(), now);
    count_.store(missing_.size(), std::memory_order_release);
  }
  // Returns the keys that must be reachable first, or nullopt if there is no outage.
  std::optional<Needs> Find(std::string_view cluster, std::string_view topic, Clock::time_point now) {
    const MutexLock lock(mutex_);
    const Needs* const found = missing_.Find(KeyOf(cluster, topic), now);
    count_.store(missing_.size(), std::memory_order_release);
    if (found == nullptr) return std::nullopt;
    return *found;
  }
  void Ended(std::string_view cluster, std::string_view topic) {
    const MutexLock lock(mutex_);
    missing_.Erase(KeyOf(cluster, topic));
    count_.store(missing_.size(), std::memory_order_release);
  }

 private:
  using Key = std::pair<std::string, std::string>;  // cluster, topic
  static Key KeyOf(std::string_view cluster, std::string_view topic) {
    return {std::string(cluster), std::string(topic)};
  }

  // These are topics that policy protects. An outage is forgotten when nobody asks about it any more; if it lasts, it
  // begins again with the next record that cannot be opened.
  static constexpr size_t kMostTopics = 10'000;
  static constexpr std::chrono::minutes kRemembered{10};

  std::atomic<size_t> count_{0};
  mutable Mutex mutex_;
  ExpiringMap<Key, Needs> missing_ ABSL_GUARDED_BY(mutex_){kMostTopics, kRemembered};
};

}  // namespace kveil::guard
