// What the answer to a Produce request says of partitions whose records did not all go to the broker with it.
#pragma once

#include <cstdint>
#include <string>

#include "kafka/messages/produce.h"
#include "kafka/topic_id.h"

namespace kveil::guard {

// A partition as the request names it.
struct PartitionAddress {
  std::string topic;  // until version 12
  kafka::TopicId topicId;
  int32_t partition = 0;
};

// Adds a partition to the answer, under its topic. The answer then refers to the address and the message.
kafka::ProduceResponse::Partition& AddPartition(const PartitionAddress& address, kafka::ErrorCode code,
                                                std::string_view message, kafka::ProduceResponse& response);

}  // namespace kveil::guard
