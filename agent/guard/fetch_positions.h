// Where a reader asked each partition from: needed to know whether anything visible is left for it (KIP-227 sessions
// name only the partitions that changed, so this is kept across requests).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "kafka/messages/fetch.h"

namespace kveil::guard {

// A topic as a message names it: by name until Fetch version 12, by id from 13.
struct TopicKey {
  std::string name;
  kafka::TopicId id;

  friend bool operator==(const TopicKey&, const TopicKey&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const TopicKey& key) {
    return H::combine(std::move(state), key.name, key.id);
  }
};

class FetchPositions {
 public:
  using Partitions = absl::flat_hash_map<int32_t, int64_t>;  // partition -> offset
  using Topics = absl::flat_hash_map<TopicKey, Partitions>;

  // Takes in what a request says. Returns whether a topic was added.
  bool Apply(const kafka::FetchRequest& request) {
    bool added = false;
    for (const kafka::FetchRequest::Topic& topic : request.topics) {
      const auto [entry, isNew] = topics_.try_emplace(KeyOf(topic.topic, topic.topicId));
      added = added || isNew;
      for (const kafka::FetchRequest::Partition& partition : topic.partitions) {
        entry->second[partition.partition] = partition.fetchOffset;
      }
    }
    for (const kafka::FetchRequest::ForgottenTopic& topic : request.forgottenTopicsData) Forget(topic);
    return added;
  }

  // 0 for a partition that was never asked for.
  int64_t OffsetOf(const TopicKey& topic, int32_t partition) const {
    const auto found = topics_.find(topic);
    if (found == topics_.end()) return 0;
    const auto offset = found->second.find(partition);
    return offset == found->second.end() ? 0 : offset->second;
  }

  const Topics& topics() const { return topics_; }

  static TopicKey KeyOf(std::string_view name, const kafka::TopicId& id) {
    TopicKey key;
    key.name = std::string(name);
    key.id = id;
    return key;
  }

 private:
  void Forget(const kafka::FetchRequest::ForgottenTopic& topic) {
    const auto found = topics_.find(KeyOf(topic.topic, topic.topicId));
    if (found == topics_.end()) return;
    for (const int32_t partition : topic.partitions) found->second.erase(partition);
    if (found->second.empty()) topics_.erase(found);
  }

  Topics topics_;
};

}  // namespace kveil::guard
