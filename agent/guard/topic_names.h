// Topic ids and the names they stand for, learned from what passes (KIP-516). An id is never used again for another
// topic, so an entry never goes stale, and whoever gives an id a second name is no honest broker: from then on the id
// has none, so that nothing goes out in the clear under a name that somebody made up.
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"

#include "base/log.h"
#include "kafka/topic_id.h"

namespace kveil::guard {

// One for all connections of the agent: ids are random, so those of different clusters do not meet. Any thread.
class TopicNames {
 public:
  // Beyond this many topics no more are learned: their ids stay unknown.
  explicit TopicNames(size_t capacity = 1'000'000) : capacity_(capacity) {}

  void Learn(const kafka::TopicId& id, std::string_view name) {
    if (id.IsZero() || name.empty()) return;
    if (Find(id) == name) return;  // nearly always, and under the shared lock
    const std::lock_guard lock(mutex_);
    const auto known = names_.find(id);
    if (known == names_.end()) {
      if (names_.size() < capacity_) names_.emplace(id, name);
    } else if (!known->second.empty() && known->second != name) {
      log::Error("topicId.twoNames", {{"id", id.Text()}, {"first", known->second}, {"second", name}});
      known->second.clear();
    }
  }

  std::optional<std::string> Find(const kafka::TopicId& id) const {
    const std::shared_lock lock(mutex_);
    const auto found = names_.find(id);
    if (found == names_.end() || found->second.empty()) return std::nullopt;
    return found->second;
  }

 private:
  const size_t capacity_;
  mutable std::shared_mutex mutex_;
  absl::flat_hash_map<kafka::TopicId, std::string> names_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
