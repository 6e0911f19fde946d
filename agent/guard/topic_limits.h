// How large a batch each topic takes (`max.message.bytes`), as the broker said a while ago.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
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
    // The broker said so. Otherwise it did not tell, and this is the default; or 0 once the broker has refused a batch
    // that was no larger than that: all that is known then is that it takes what is no larger than it came.
    bool isCertain = false;
    size_t proven = 0;  // where it is not certain: the largest batch that the broker took
    Clock::time_point learned;
  };

  // Nothing when it has to be asked for.
  std::optional<Limit> Find(std::string_view cluster, std::string_view topic, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    const Limit* const found = limits_.Find(Key(cluster, topic), now);
    if (found == nullptr || now >= found->learned + kLifetime) return std::nullopt;
    return *found;
  }

  void Learn(std::string_view cluster, std::string_view topic, size_t bytes, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    limits_.Put(Key(cluster, topic), {.bytes = bytes, .isCertain = true, .learned = now}, now);
  }
  // It was asked for and not told: what was known counts on, or the default does.
  void Assume(std::string_view cluster, std::string_view topic, Clock::time_point now) {
    Change(cluster, topic, now, [now](Limit& limit) { limit.learned = now; });
  }
  // It is being asked for: until the answer, what is known counts on.
  void Renew(std::string_view cluster, std::string_view topic, Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    if (Limit* const found = limits_.Find(Key(cluster, topic), now); found != nullptr) found->learned = now;
  }
  // The broker took a batch of that many bytes; or did not, though it would have as the producer sent it.
  void Took(std::string_view cluster, std::string_view topic, size_t bytes, Clock::time_point now) {
    // This does not put off the next question: the topic may have been unknown, or rights may have been missing.
    Change(cluster, topic, now, [bytes](Limit& limit) { limit.proven = std::max(limit.proven, bytes); });
  }
  void Refused(std::string_view cluster, std::string_view topic, Clock::time_point now) {
    Change(cluster, topic, now, [now](Limit& limit) {
      if (!limit.isCertain) limit.bytes = 0;
      limit.learned = now;
    });
  }
  // The broker does not know the topic, or not yet.
  void Forget(std::string_view cluster, std::string_view topic) {
    const std::lock_guard lock(mutex_);
    limits_.Erase(Key(cluster, topic));
  }

 private:
  static constexpr size_t kMostTopics = 100'000;
  // How long what is known counts on where the broker does not tell any more.
  static constexpr std::chrono::hours kKeptFor{1};

  template <typename Edit>
  void Change(std::string_view cluster, std::string_view topic, Clock::time_point now, Edit edit) {
    const std::lock_guard lock(mutex_);
    const std::string key = Key(cluster, topic);
    const Limit* const known = limits_.Find(key, now);
    Limit limit = known != nullptr ? *known : Limit();
    edit(limit);
    limits_.Put(key, limit, now);
  }
  static std::string Key(std::string_view cluster, std::string_view topic) { return StrCat(topic, " ", cluster); }

  std::mutex mutex_;
  ExpiringMap<std::string, Limit> limits_ ABSL_GUARDED_BY(mutex_){kMostTopics, kKeptFor};
};

}  // namespace kveil::guard
