// How large a batch each topic takes (`max.message.bytes`), as the broker said a while ago.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/text.h"

namespace kveil::guard {

// One for all connections of the agent. Any thread.
class TopicLimits {
 public:
  using Clock = std::chrono::steady_clock;
  // A topic's limit unless somebody changed it (Kafka's default, 1 MiB and the batch prefix), in bytes.
  static constexpr size_t kDefault = 1'048'588;
  // An operator may change a topic's limit: it is asked for again after this long.
  static constexpr std::chrono::minutes kLifetime{5};

  // Nothing when it has to be asked for.
  std::optional<size_t> Find(std::string_view cluster, std::string_view topic, Clock::time_point now) const {
    const std::lock_guard lock(mutex_);
    const auto found = limits_.find(Key(cluster, topic));
    if (found == limits_.end() || now >= found->second.until) return std::nullopt;
    return found->second.bytes;
  }

  void Learn(std::string_view cluster, std::string_view topic, size_t bytes, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (limits_.size() >= kMostTopics) limits_.clear();
    Entry& entry = limits_[Key(cluster, topic)];
    entry.bytes = bytes;
    entry.until = now + kLifetime;
  }

 private:
  static constexpr size_t kMostTopics = 100'000;
  struct Entry {
    size_t bytes = kDefault;
    Clock::time_point until;
  };

  static std::string Key(std::string_view cluster, std::string_view topic) { return StrCat(topic, " ", cluster); }

  mutable std::mutex mutex_;
  absl::flat_hash_map<std::string, Entry> limits_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
