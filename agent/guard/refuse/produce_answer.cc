#include "guard/refuse/produce_answer.h"

#include <algorithm>

#include "base/text.h"

namespace kveil::guard {

using kafka::ProduceResponse;

absl::Status CheckAnswer(const ProduceResponse& response, size_t partitions) {
  size_t answered = 0;
  for (const ProduceResponse::Topic& topic : response.responses) {
    answered += std::max<size_t>(topic.partitionResponses.size(), 1);
    if (topic.name.size() > kafka::kLongestTopicName) {
      return absl::InvalidArgumentError(
          StrCat("the broker answered for a topic with a name of ", topic.name.size(), " bytes"));
    }
  }
  if (answered <= partitions) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("the broker answered for ", answered, " partitions, asked for ", partitions));
}

ProduceAnswer::ProduceAnswer(ProduceResponse& response) : response_(response) {
  for (size_t topic = 0; topic < response.responses.size(); ++topic) {
    const ProduceResponse::Topic& answered = response.responses[topic];
    topics_.try_emplace({answered.name, answered.topicId}, topic);
    for (size_t partition = 0; partition < answered.partitionResponses.size(); ++partition) {
      partitions_.try_emplace({topic, answered.partitionResponses[partition].index}, partition);
    }
  }
}

ProduceResponse::Partition* ProduceAnswer::Find(const PartitionAddress& address) {
  const auto topic = topics_.find(std::pair<std::string_view, kafka::TopicId>(address.topic, address.topicId));
  if (topic == topics_.end()) return nullptr;
  const auto partition = partitions_.find(std::pair(topic->second, address.partition));
  if (partition == partitions_.end()) return nullptr;
  return &response_.responses[topic->second].partitionResponses[partition->second];
}

ProduceResponse::Partition& ProduceAnswer::Add(std::string_view name, const kafka::TopicId& id, int32_t index,
                                               const Refusal& refusal) {
  const auto [topic, isNew] = topics_.try_emplace({name, id}, response_.responses.size());
  if (isNew) {
    ProduceResponse::Topic& added = response_.responses.emplace_back();
    added.name = name;
    added.topicId = id;
  }
  auto& partitions = response_.responses[topic->second].partitionResponses;
  partitions_.try_emplace({topic->second, index}, partitions.size());
  ProduceResponse::Partition& partition = partitions.emplace_back();
  partition.index = index;
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
