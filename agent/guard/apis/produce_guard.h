// Produce: seals the batches of protected topics, and answers for those that may not be forwarded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "guard/apis/api_guard.h"
#include "guard/apis/produce_state.h"
#include "guard/learn/topic_lookup.h"
#include "guard/seal/partition_sealer.h"
#include "io/turn.h"
#include "kafka/messages/produce.h"

namespace kveil::guard {

class ProduceGuard : public ApiGuard<kafka::ProduceRequest> {
 public:
  explicit ProduceGuard(const GuardContext& context)
      : ApiGuard(context),
        scratch_(context.scratch),
        lookup_(context.shared.topicNames, context.connection),
        sealer_(context.shared, context.scratch, context.loop, context.connection) {}

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  enum class Changed { kNo, kYes, kTooMuch };

  static proxy::RequestVerdict Forward(const proxy::RequestFrame& request, const kafka::ProduceRequest& decoded,
                                       bool isChanged, std::unique_ptr<ProduceState> state, proxy::FrameOutput& output);
  io::Task<void> LearnLimits(const kafka::ProduceRequest& request, const ProduceJob& job);
  io::Task<Changed> SealTopics(kafka::ProduceRequest& request, ProduceJob& job, ProduceState& state);
  io::Task<bool> SealTopic(const ProducedTopic& known, ProduceJob& job, io::Turn& turn,
                           kafka::ProduceRequest::Topic& topic, ProduceState& state);
  io::Task<absl::Status> SendAhead(kafka::ProduceRequest& request, const kafka::RequestHeader& header, ProduceJob& job,
                                   SplitBatches& split);
  void HearOf(const SplitBatches::Batch& batch);
  ProducedTopic StateOf(const kafka::ProduceRequest::Topic& topic, const ProduceJob& job) const;
  io::Task<std::optional<Refusal>> SealPartition(const ProducedTopic& topic, ProduceJob& job,
                                                 kafka::ProduceRequest::Partition& partition,
                                                 PartitionSealer::Sealed& sealed);
  std::optional<Refusal> RefusedBefore(const ProducedTopic& topic, const kafka::ProduceRequest::Partition& partition);
  void RememberRefusal(const std::optional<SplitMemory::BatchId>& id, kafka::ErrorCode code);
  void TellAudit(const ProducedTopic& topic, uint64_t refused);
  void NoteUnselected(const std::string& topic);
  void Report(const std::vector<ProduceState::Refused>& refused) const;

  WorkerScratch& scratch_;
  TopicLookup lookup_;
  PartitionSealer sealer_;
  bool orderIsLost_ = false;  // a refusal could not be remembered: nothing that follows may pass
};

}  // namespace kveil::guard
