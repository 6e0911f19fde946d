// Topic ids and the names they stand for, learned from what passes (KIP-516). An id is never used again for another
// topic, so an entry never goes stale.
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"

#include "kafka/topic_id.h"

namespace kveil::guard {

// One for all connections of the agent: ids are random, so those of different clusters do not meet. Any thread.
class TopicNames {
 public:
  // Beyond this many topics all are forgotten and learned anew.
  explicit TopicNames(size_t capacity = 1'000'000) : capacity_(capacity) {}

  void Learn(const kafka::TopicId& id, std::string_view name) {
    if (id.IsZero() || name.empty()) return;
    const std::lock_guard lock(mutex_);
    if (names_.size() >= capacity_) names_.clear();
    names_.try_emplace(id, name);
  }

  std::optional<std::string> Find(const kafka::TopicId& id) const {
    const std::shared_lock lock(mutex_);
    const auto found = names_.find(id);
    if (found == names_.end()) return std::nullopt;
    return found->second;
  }

 private:
  const size_t capacity_;
  mutable std::shared_mutex mutex_;
  absl::flat_hash_map<kafka::TopicId, std::string> names_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
