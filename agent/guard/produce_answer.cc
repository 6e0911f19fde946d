#include "guard/produce_answer.h"

#include <algorithm>
#include <utility>

namespace kveil::guard {

kafka::ProduceResponse::Partition& AddPartition(const PartitionAddress& address, kafka::ErrorCode code,
                                                std::string_view message, kafka::ProduceResponse& response) {
  auto topic = std::find_if(response.responses.begin(), response.responses.end(), [&](const auto& candidate) {
    return candidate.name == address.topic && candidate.topicId == address.topicId;
  });
  if (topic == response.responses.end()) {
    kafka::ProduceResponse::Topic added;
    added.name = address.topic;
    added.topicId = address.topicId;
    topic = response.responses.insert(response.responses.end(), std::move(added));
  }
  kafka::ProduceResponse::Partition& partition = topic->partitionResponses.emplace_back();
  partition.index = address.partition;
  partition.errorCode = code;
  partition.baseOffset = -1;
  if (!message.empty()) partition.errorMessage = message;
  return partition;
}

}  // namespace kveil::guard
