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
  static constexpr std::chrono::minutes kLifetime{1};

  struct Limit {
    size_t bytes = kDefault;
    bool isCertain = false;  // the broker said so; otherwise it did not tell, and this is the default
    Clock::time_point learned;
  };

  // Nothing when it has to be asked for.
  std::optional<Limit> Find(std::string_view cluster, std::string_view topic, Clock::time_point now) const {
    const std::lock_guard lock(mutex_);
    const auto found = limits_.find(Key(cluster, topic));
    if (found == limits_.end() || now >= found->second.learned + kLifetime) return std::nullopt;
    return found->second;
  }

  void Learn(std::string_view cluster, std::string_view topic, size_t bytes, Clock::time_point now) {
    Keep(cluster, topic, {.bytes = bytes, .isCertain = true, .learned = now});
  }
  // It was asked for and not told: what was known counts on, or the default does.
  void Assume(std::string_view cluster, std::string_view topic, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (limits_.size() >= kMostTopics) limits_.clear();
    limits_[Key(cluster, topic)].learned = now;
  }
  // It is being asked for: until the answer, what is known counts on.
  void Renew(std::string_view cluster, std::string_view topic, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    const auto found = limits_.find(Key(cluster, topic));
    if (found != limits_.end()) found->second.learned = now;
  }
  // The broker does not know the topic, or not yet.
  void Forget(std::string_view cluster, std::string_view topic) {
    const std::lock_guard lock(mutex_);
    limits_.erase(Key(cluster, topic));
  }

 private:
  static constexpr size_t kMostTopics = 100'000;

  void Keep(std::string_view cluster, std::string_view topic, const Limit& limit) {
    const std::lock_guard lock(mutex_);
    if (limits_.size() >= kMostTopics) limits_.clear();
    limits_[Key(cluster, topic)] = limit;
  }
  static std::string Key(std::string_view cluster, std::string_view topic) { return StrCat(topic, " ", cluster); }

  mutable std::mutex mutex_;
  absl::flat_hash_map<std::string, Limit> limits_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
