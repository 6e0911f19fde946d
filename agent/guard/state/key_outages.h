// Topics with a record that could not be opened because its key cannot be reached now.
//
// When the broker hands out a record to a share group and the record is not read, that counts as a try, and after five
// tries the broker gives it up. So nothing more of such a topic is asked for until its missing keys can be reached.
//
// What stops only those readers whom the same entries of `read` fit is an outage of theirs, on all of their
// connections: the broker hands a record that one of them could not read to another.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
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

  // Whom it stops. Empty `readers`: all of a topic; otherwise those with these EntrySet::bytes.
  struct Place {
    std::string_view cluster;
    std::string_view topic;
    std::string_view readers = {};
  };

  // `missing` are keys of the topic that could not be reached.
  void Began(const Place& place, const Needs& missing, Clock::time_point now) {
    const MutexLock lock(mutex_);
    missing_.Put(KeyOf(place), missing.Some(), now);
    count_.store(missing_.size(), std::memory_order_release);
  }
  // Returns the keys that must be reachable first, or nullopt if there is no outage.
  std::optional<Needs> Find(const Place& place, Clock::time_point now) {
    const MutexLock lock(mutex_);
    const Needs* const found = missing_.Find(KeyOf(place), now);
    count_.store(missing_.size(), std::memory_order_release);
    if (found == nullptr) return std::nullopt;
    return *found;
  }
  void Ended(const Place& place) {
    const MutexLock lock(mutex_);
    missing_.Erase(KeyOf(place));
    count_.store(missing_.size(), std::memory_order_release);
  }

 private:
  using Key = std::tuple<std::string, std::string, std::string>;
  static Key KeyOf(const Place& place) {
    return {std::string(place.cluster), std::string(place.topic), std::string(place.readers)};
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
