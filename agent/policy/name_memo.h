// Which entry a topic has, for names that patterns were tried for.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/text.h"

namespace kveil::policy {

struct TopicPolicy;

// Any thread.
class NameMemo {
 public:
  static constexpr size_t kMost = 10'000;  // names; then it begins anew
  static constexpr size_t kLongest = 249;  // bytes of a name, as in Kafka. Longer ones are not remembered

  // nullopt: the name is not remembered. nullptr: it has no entry.
  std::optional<const TopicPolicy*> Find(std::string_view name) const {
    const MutexLock lock(mutex_);
    const auto found = entries_.find(ToAbsl(name));
    return found == entries_.end() ? std::nullopt : std::optional<const TopicPolicy*>(found->second);
  }
  void Add(std::string_view name, const TopicPolicy* entry) {
    if (name.size() > kLongest) return;
    const MutexLock lock(mutex_);
    if (entries_.size() >= kMost) entries_.clear();
    entries_.insert_or_assign(std::string(name), entry);
  }

 private:
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, const TopicPolicy*> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::policy
