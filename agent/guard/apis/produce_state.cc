#include "guard/apis/produce_state.h"

#include <utility>

namespace kveil::guard {

void ProduceState::AddRefused(const kafka::ProduceRequest::Topic& topic, std::string_view name, int32_t partition,
                              Refusal refusal) {
  if (refusedTopics_.empty() || refusedTopics_.back().wireName != topic.name ||
      refusedTopics_.back().id != topic.topicId) {
    refusedTopics_.push_back({.wireName = std::string(topic.name), .id = topic.topicId, .name = std::string(name)});
    added_ += refusedTopics_.back().bytes();
  }
  refused_.push_back({.topic = &refusedTopics_.back(), .partition = partition, .refusal = std::move(refusal)});
  added_ += refused_.back().bytes();
}

void ProduceState::AddTaken(PartitionAddress address, int64_t baseOffset) {
  split_.AddTaken(std::move(address), baseOffset);
  added_ += split_.batches().back().bytes();
}

void ProduceState::AddSplit(SplitBatches::Batch batch) {
  split_.Add(std::move(batch));
  added_ += split_.batches().back().bytes();
}

size_t ProduceState::bytes() const {
  size_t bytes = sizeof(*this) + split_.bytes();
  for (const RefusedTopic& topic : refusedTopics_) bytes += topic.bytes();
  for (const Refused& entry : refused_) bytes += entry.bytes();
  return bytes;
}

void ProduceState::Complete(kafka::ProduceResponse& response) {
  ProduceAnswer answer(response);
  split_.Complete(answer);
  for (const Refused& entry : refused_) {
    answer.Add(entry.topic->wireName, entry.topic->id, entry.partition, entry.refusal);
  }
}

}  // namespace kveil::guard
