// What the answer to a Produce request says of partitions whose records did not all go to the broker with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
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

// Finds and adds partitions of an answer. Making one looks once at all that the answer holds; each call then takes
// constant time, however many partitions a request has. The answer must not be changed otherwise meanwhile.
class ProduceAnswer {
 public:
  explicit ProduceAnswer(kafka::ProduceResponse& response);

  // nullptr when the answer does not have it. Valid until the next Add.
  kafka::ProduceResponse::Partition* Find(const PartitionAddress& address);

  // Adds a partition under its topic, with no offset. The answer then refers to `address` and `refusal`.
  kafka::ProduceResponse::Partition& Add(const PartitionAddress& address, const Refusal& refusal);

 private:
  struct Place {
    size_t topic = 0;
    size_t partition = 0;
  };

  kafka::ProduceResponse& response_;
  absl::flat_hash_map<PartitionAddress, Place> places_;
  absl::flat_hash_map<std::pair<std::string, kafka::TopicId>, size_t> topics_;
};

}  // namespace kveil::guard
