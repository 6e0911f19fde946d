// What is remembered of a Produce request until its response: the partitions whose records did not all go to the broker
// with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "guard/refuse/produce_answer.h"
#include "guard/refuse/refusal.h"
#include "guard/seal/split_batches.h"
#include "kafka/messages/produce.h"
#include "kafka/topic_id.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class ProduceState : public proxy::RequestState {
 public:
  struct RefusedTopic {
    std::string wireName;  // until version 12
    kafka::TopicId id;
    std::string name;  // for the log; empty while the name of an id is not known

    // Of the topic, in the log.
    std::string text() const { return name.empty() ? id.Text() : name; }
    size_t bytes() const { return sizeof(*this) + wireName.size() + name.size(); }
  };
  // A partition whose records stay here.
  struct Refused {
    const RefusedTopic* topic = nullptr;
    int32_t partition = 0;
    Refusal refusal;

    size_t bytes() const { return sizeof(*this) + refusal.bytes(); }
  };

  explicit ProduceState(SplitMemory& memory) : split_(memory) {}

  // Partitions of one topic are added one after the other. `name` is empty while the name of an id is not known.
  void AddRefused(const kafka::ProduceRequest::Topic& topic, std::string_view name, int32_t partition, Refusal refusal);
  // The broker has the partition's batch from an earlier time.
  void AddTaken(PartitionAddress address, int64_t baseOffset);
  // See SplitBatches::Add.
  void AddSplit(SplitBatches::Batch batch);

  const std::vector<Refused>& refused() const { return refused_; }
  SplitBatches& split() { return split_; }
  // Whether the broker's response is complete as it comes.
  bool empty() const { return refused_.empty() && split_.empty(); }
  // How many partitions went to the broker in the request itself.
  void SetForwarded(size_t partitions) { forwarded_ = partitions; }
  size_t forwarded() const { return forwarded_; }

  // About how much memory everything takes that was added. As it was when it was added: bytes() walks over all of it.
  size_t added() const { return added_; }
  size_t bytes() const override;

  // Makes the broker's response to what was forwarded one to the whole request. The response then refers to this.
  void Complete(kafka::ProduceResponse& response);

 private:
  std::deque<RefusedTopic> refusedTopics_;  // a deque, as refused partitions point at them
  std::vector<Refused> refused_;
  SplitBatches split_;
  size_t forwarded_ = 0;
  size_t added_ = 0;
};

}  // namespace kveil::guard
