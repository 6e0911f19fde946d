// Produce: seals the batches of protected topics, and answers for those that may not be forwarded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guard/apis/guarded_apis.h"
#include "guard/learn/topic_lookup.h"
#include "guard/refuse/produce_answer.h"
#include "guard/seal/partition_sealer.h"
#include "guard/seal/split_batches.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/messages/produce.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class ProduceGuard : public proxy::Interceptor {
 public:
  ProduceGuard(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared),
        loop_(loop),
        connection_(connection),
        lookup_(shared.topicNames, connection),
        sealer_(shared, scratch, loop, connection) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kProduce); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  // A partition whose records stay here.
  struct RefusedTopic {
    std::string wireName;  // until version 12
    kafka::TopicId id;
    std::string name;  // for the log; empty while an id's name is not known

    size_t bytes() const { return sizeof(*this) + wireName.size() + name.size(); }
  };
  struct Refused {
    const RefusedTopic* topic = nullptr;
    int32_t partition = 0;
    Refusal refusal;

    size_t bytes() const { return sizeof(*this) + refusal.bytes(); }
  };
  struct State;
  enum class Changed { kNo, kYes, kTooMuch };
  io::Task<void> LearnLimits(const kafka::ProduceRequest& request, const ProduceJob& job);
  io::Task<Changed> SealTopics(kafka::ProduceRequest& request, ProduceJob& job, State& state);
  io::Task<absl::Status> SendAhead(kafka::ProduceRequest& request, const kafka::RequestHeader& header, ProduceJob& job,
                                   SplitBatches& split);
  void HearOf(const SplitBatches::Batch& batch);
  ProducedTopic StateOf(const kafka::ProduceRequest::Topic& topic, const ProduceJob& job) const;
  io::Task<std::optional<Refusal>> SealPartition(const ProducedTopic& topic, ProduceJob& job,
                                                 kafka::ProduceRequest::Partition& partition,
                                                 PartitionSealer::Sealed& sealed);
  std::optional<Refusal> RefusedBefore(const ProducedTopic& topic, const kafka::ProduceRequest::Partition& partition);
  void RememberRefusal(const std::optional<SplitMemory::BatchId>& id, kafka::ErrorCode code);
  void NoteUnselected(const std::string& topic);
  void Report(const std::vector<Refused>& refused) const;

  SharedState& shared_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  TopicLookup lookup_;
  PartitionSealer sealer_;
  bool orderIsLost_ = false;  // a refusal could not be remembered: nothing that follows may pass
};

}  // namespace kveil::guard
