// What the answer to a Produce request says of partitions whose records did not all go to the broker with it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "guard/refusal.h"
#include "kafka/messages/produce.h"
#include "kafka/topic_id.h"

namespace kveil::guard {

// A partition as the request names it.
struct PartitionAddress {
  std::string topic;  // until version 12
  kafka::TopicId topicId;
  int32_t partition = 0;
};

// The partition's topic among those of a request or a response, or their end.
template <typename Topics>
auto FindTopic(Topics& topics, const PartitionAddress& address) {
  return std::find_if(topics.begin(), topics.end(), [&](const auto& topic) {
    return topic.name == address.topic && topic.topicId == address.topicId;
  });
}

// The same, added where it is not there. It then refers to the address.
template <typename Topics>
auto FindOrAddTopic(Topics& topics, const PartitionAddress& address) {
  auto topic = FindTopic(topics, address);
  if (topic != topics.end()) return topic;
  topic = topics.emplace(topics.end());
  topic->name = address.topic;
  topic->topicId = address.topicId;
  return topic;
}

// Adds a partition to the answer, under its topic, with no offset. The answer then refers to both.
kafka::ProduceResponse::Partition& AddPartition(const PartitionAddress& address, const Refusal& refusal,
                                                kafka::ProduceResponse& response);

}  // namespace kveil::guard
