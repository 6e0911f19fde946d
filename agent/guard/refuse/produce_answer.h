// What the answer to a Produce request says of partitions whose records did not all go to the broker with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "guard/refuse/refusal.h"
#include "kafka/messages/produce.h"
#include "kafka/topic_id.h"

namespace kveil::guard {

// A partition as the request names it.
struct PartitionAddress {
  std::string topic;  // until version 12
  kafka::TopicId topicId;
  int32_t partition = 0;

  template <typename Topic>
  bool IsOf(const Topic& other) const {
    return other.name == topic && other.topicId == topicId;
  }
  friend bool operator==(const PartitionAddress&, const PartitionAddress&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const PartitionAddress& address) {
    return H::combine(std::move(state), address.topic, address.topicId, address.partition);
  }
};

// An error: it cannot be the answer to a request with so many partitions. A broker that answers to more than it was
// asked would decide how much memory it takes to look at that.
absl::Status CheckAnswer(const kafka::ProduceResponse& response, size_t partitions);

// Finds and adds partitions of an answer. Making one looks once at all that the answer holds; each call then takes
// constant time, however many partitions a request has. The answer must not be changed otherwise meanwhile.
class ProduceAnswer {
 public:
  explicit ProduceAnswer(kafka::ProduceResponse& response);  // that has been checked

  // nullptr when the answer does not have it. Valid until the next Add.
  kafka::ProduceResponse::Partition* Find(const PartitionAddress& address);

  // Adds a partition under its topic, with no offset. The answer then refers to `topic` and `refusal`.
  kafka::ProduceResponse::Partition& Add(std::string_view topic, const kafka::TopicId& id, int32_t partition,
                                         const Refusal& refusal);

 private:
  kafka::ProduceResponse& response_;
  absl::flat_hash_map<std::pair<std::string_view, kafka::TopicId>, size_t> topics_;
  absl::flat_hash_map<std::pair<size_t, int32_t>, size_t> partitions_;  // by topic and index
};

}  // namespace kveil::guard
