#include "guard/refuse/produce_answer.h"

#include <string>

namespace kveil::guard {

using kafka::ProduceResponse;

ProduceAnswer::ProduceAnswer(ProduceResponse& response) : response_(response) {
  for (size_t topic = 0; topic < response.responses.size(); ++topic) {
    const ProduceResponse::Topic& answered = response.responses[topic];
    topics_.try_emplace({std::string(answered.name), answered.topicId}, topic);
    PartitionAddress address;
    address.topic = std::string(answered.name);
    address.topicId = answered.topicId;
    for (size_t partition = 0; partition < answered.partitionResponses.size(); ++partition) {
      address.partition = answered.partitionResponses[partition].index;
      places_.try_emplace(address, Place{.topic = topic, .partition = partition});
    }
  }
}

ProduceResponse::Partition* ProduceAnswer::Find(const PartitionAddress& address) {
  const auto found = places_.find(address);
  if (found == places_.end()) return nullptr;
  return &response_.responses[found->second.topic].partitionResponses[found->second.partition];
}

ProduceResponse::Partition& ProduceAnswer::Add(const PartitionAddress& address, const Refusal& refusal) {
  const auto [topic, isNew] = topics_.try_emplace({address.topic, address.topicId}, response_.responses.size());
  if (isNew) {
    ProduceResponse::Topic& added = response_.responses.emplace_back();
    added.name = address.topic;
    added.topicId = address.topicId;
  }
  auto& partitions = response_.responses[topic->second].partitionResponses;
  places_.try_emplace(address, Place{.topic = topic->second, .partition = partitions.size()});
  ProduceResponse::Partition& partition = partitions.emplace_back();
  partition.index = address.partition;
  partition.errorCode = refusal.code;
  partition.baseOffset = -1;
  if (!refusal.message.empty()) partition.errorMessage = refusal.message;
  for (const Refusal::Record& record : refusal.records) {
    ProduceResponse::RecordError& error = partition.recordErrors.emplace_back();
    error.batchIndex = record.index;
    if (!record.message.empty()) error.batchIndexErrorMessage = record.message;
  }
  return partition;
}

}  // namespace kveil::guard
