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
#include "absl/status/status.h"
#include "base/log.h"
#include "base/text.h"
#include "kafka/topic_id.h"

namespace kveil::guard {

// One for all connections of the agent: ids are random, so those of different clusters do not meet. Any thread.
class TopicNames {
 public:
  // Of each cluster, so that what one cluster's brokers make up takes nothing from the others. Beyond it no more are
  // learned: their ids stay unknown, and what names them is refused. None is dropped for another, because one that
  // comes back might come back under another name.
  static constexpr size_t kMostOfACluster = 200'000;
  static constexpr size_t kLongestName = 249;  // Kafka's own limit

  explicit TopicNames(size_t mostOfACluster = kMostOfACluster) : mostOfACluster_(mostOfACluster) {}

  void Learn(const kafka::TopicId& id, std::string_view name, std::string_view cluster = {}) {
    if (id.IsZero() || name.empty() || name.size() > kLongestName) return;
    if (Find(id) == name) return;  // nearly always, and under the shared lock
    const std::lock_guard lock(mutex_);
    const auto known = names_.find(id);
    if (known == names_.end()) {
      size_t& count = counts_[ToAbsl(cluster)];
      if (count >= mostOfACluster_) {
        full_ = cluster;
        return;
      }
      names_.emplace(id, name);
      ++count;
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

  // An error once a cluster has named more topics than are kept: it stays until the agent starts anew.
  absl::Status Health() const {
    const std::shared_lock lock(mutex_);
    if (!full_.has_value()) return absl::OkStatus();
    return absl::ResourceExhaustedError(StrCat("cluster ", *full_, " has named more than ", mostOfACluster_,
                                               " topics by id; further ones are refused when used by id"));
  }

 private:
  const size_t mostOfACluster_;
  mutable std::shared_mutex mutex_;
  absl::flat_hash_map<kafka::TopicId, std::string> names_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, size_t> counts_ ABSL_GUARDED_BY(mutex_);  // by cluster, of those configured
  std::optional<std::string> full_ ABSL_GUARDED_BY(mutex_);                  // the cluster that was last refused one
};

}  // namespace kveil::guard
