// From which offset a reader asked for each partition, and for how many bytes. That is needed to know whether anything
// visible is left for the reader, and how much it is ready for. Requests of a session (KIP-227) name only the
// partitions that changed, so this is kept across requests.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
  struct Asked {
    int64_t offset = 0;
    int32_t maxBytes = 0;
  };
  using Partitions = absl::flat_hash_map<int32_t, Asked>;
  using Topics = absl::flat_hash_map<TopicKey, Partitions>;

  // Notes what a request says. Returns the topics that were added.
  std::vector<TopicKey> Apply(const kafka::FetchRequest& request) {
    std::vector<TopicKey> added;
    for (const kafka::FetchRequest::Topic& topic : request.topics) {
      const auto [entry, isNew] = topics_.try_emplace(KeyOf(topic.topic, topic.topicId));
      if (isNew) memory_ += kTopicBytes + topic.topic.size();
      if (isNew) added.push_back(entry->first);
      for (const kafka::FetchRequest::Partition& partition : topic.partitions) {
        const auto [asked, isNewPartition] = entry->second.try_emplace(partition.partition);
        if (isNewPartition) memory_ += kAskedBytes;
        asked->second = {partition.fetchOffset, partition.partitionMaxBytes};
      }
    }
    for (const kafka::FetchRequest::ForgottenTopic& topic : request.forgottenTopicsData) Forget(topic);
    return added;
  }

  // The partitions of a topic that were asked for, or nullptr. The pointer is valid until the next Apply.
  const Partitions* Find(const TopicKey& topic) const {
    const auto found = topics_.find(topic);
    return found == topics_.end() ? nullptr : &found->second;
  }

  // About how many bytes of memory it takes, including the free space of tables.
  size_t memory() const { return memory_; }
  // At most how many more bytes Apply(request) would take. Stops counting soon after `most`.
  size_t MemoryFor(const kafka::FetchRequest& request, size_t most) const {
    size_t bytes = 0;
    for (const kafka::FetchRequest::Topic& topic : request.topics) {
      if (bytes > most) break;
      const auto known = topics_.find(KeyOf(topic.topic, topic.topicId));
      if (known == topics_.end()) {
        bytes += kTopicBytes + topic.topic.size() + topic.partitions.size() * kAskedBytes;
        continue;
      }
      for (const kafka::FetchRequest::Partition& partition : topic.partitions) {
        if (!known->second.contains(partition.partition)) bytes += kAskedBytes;
      }
    }
    return bytes;
  }

  const Topics& topics() const { return topics_; }

  static TopicKey KeyOf(std::string_view name, const kafka::TopicId& id) {
    TopicKey key;
    key.name = std::string(name);
    key.id = id;
    return key;
  }

 private:
  static constexpr size_t kTopicBytes = 2 * (sizeof(TopicKey) + sizeof(Partitions)) + 128;
  static constexpr size_t kAskedBytes = 2 * (sizeof(int32_t) + sizeof(Asked) + 8);

  void Forget(const kafka::FetchRequest::ForgottenTopic& topic) {
    const auto found = topics_.find(KeyOf(topic.topic, topic.topicId));
    if (found == topics_.end()) return;
    for (const int32_t partition : topic.partitions) memory_ -= found->second.erase(partition) * kAskedBytes;
    if (!found->second.empty()) return;
    memory_ -= kTopicBytes + topic.topic.size();
    topics_.erase(found);
  }

  Topics topics_;
  size_t memory_ = 0;
};

}  // namespace kveil::guard
