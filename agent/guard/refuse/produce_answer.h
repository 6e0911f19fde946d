// What the response to a Produce request says about partitions whose records did not all go to the broker with it.
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

// Returns an error if this cannot be the response to a request with so many partitions. A broker that answers for more
// partitions than it was asked about would decide how much memory it takes to look at them.
absl::Status CheckAnswer(const kafka::ProduceResponse& response, size_t partitions);

// Finds and adds partitions of a response. The constructor walks over the response once. Then each call takes constant
// time, however many partitions there are. Nothing else may change the response meanwhile.
class ProduceAnswer {
 public:
  explicit ProduceAnswer(kafka::ProduceResponse& response);  // one that CheckAnswer has accepted

  // Returns nullptr if the response does not have the partition. The pointer is valid until the next Add.
  kafka::ProduceResponse::Partition* Find(const PartitionAddress& address);

  // Adds a partition under its topic, with no offset. The response then refers to `topic` and `refusal`.
  kafka::ProduceResponse::Partition& Add(std::string_view topic, const kafka::TopicId& id, int32_t partition,
                                         const Refusal& refusal);

 private:
  kafka::ProduceResponse& response_;
  absl::flat_hash_map<std::pair<std::string_view, kafka::TopicId>, size_t> topics_;
  absl::flat_hash_map<std::pair<size_t, int32_t>, size_t> partitions_;  // by topic and index
};

}  // namespace kveil::guard
