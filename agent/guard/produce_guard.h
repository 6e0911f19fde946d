// Produce: seals the batches of protected topics, and answers for those that may not be forwarded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guard/batch_sealer.h"
#include "guard/guarded_apis.h"
#include "guard/limit_lookup.h"
#include "guard/produce_answer.h"
#include "guard/shared_state.h"
#include "guard/split_batches.h"
#include "guard/topic_lookup.h"
#include "guard/worker_scratch.h"
#include "kafka/messages/produce.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class ProduceGuard : public proxy::Interceptor {
 public:
  ProduceGuard(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared),
        scratch_(scratch),
        loop_(loop),
        connection_(connection),
        lookup_(shared.topicNames, connection),
        limits_(shared.topicLimits, connection) {}

  std::vector<kafka::ApiKey> Wants() const override { return ApisOf(Handler::kProduce); }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  // A partition whose records stay here.
  struct Refused {
    PartitionAddress address;
    std::string name;  // for the log; empty while an id's name is not known
    Refusal refusal;
  };
  struct State;
  enum class Changed { kNo, kYes };
  struct Limits {
    std::chrono::steady_clock::time_point deadline;  // for keys
    size_t room = 0;                                 // bytes that sealed batches may still take
    bool answered = true;                            // what it asks for
  };

  // What a partition's batch is sealed into, if it is; and where the broker has it, if it does.
  struct Sealed {
    std::vector<SplitBatches::Part> parts;
    std::optional<SplitMemory::BatchId> id;
    std::optional<SplitBatches::UnknownLimit> unknownLimit;
    std::optional<int64_t> takenAt;
  };

  // A topic of a request, and what is known of it.
  struct TopicState {
    std::string wireName;  // as the request has it: the name, or the id as text
    std::optional<std::string> name;
    const policy::TopicPolicy* sealedBy = nullptr;  // null: nothing of it is sealed
    bool isUnselected = false;                      // it has a name, not an internal one, and no policy has an entry
    bool isRefused = false;                         // because it is unselected
  };

  std::vector<std::string> TopicsWithoutLimit(const kafka::ProduceRequest& request, int16_t version,
                                              const policy::Policy& policies) const;
  io::Task<Changed> SealTopics(kafka::ProduceRequest& request, int16_t version, proxy::Upstream& upstream,
                               proxy::Arena& arena, State& state);
  io::Task<absl::Status> SendAhead(kafka::ProduceRequest& request, const kafka::RequestHeader& header,
                                   proxy::Upstream& upstream, SplitBatches& split);
  void HearOf(SplitBatches::Batch& batch);
  TopicState StateOf(const kafka::ProduceRequest::Topic& topic, int16_t version, const policy::Policy& policies) const;
  io::Task<std::optional<Refusal>> SealPartition(const TopicState& topic, int16_t version, Limits& limits,
                                                 kafka::ProduceRequest::Partition& partition, proxy::Upstream& upstream,
                                                 proxy::Arena& arena, Sealed& sealed);
  io::Task<std::optional<Refusal>> SealRecords(const TopicState& topic, int16_t version, Limits& limits,
                                               kafka::ProduceRequest::Partition& partition, proxy::Upstream& upstream,
                                               proxy::Arena& arena, Sealed& sealed);
  std::optional<Refusal> Keep(const TopicState& topic, const SealTask& task, const SealOutcome& outcome, Bytes bytes,
                              kafka::ProduceRequest::Partition& partition, Sealed& sealed);
  std::optional<Refusal> RefusedBefore(const TopicState& topic, const kafka::ProduceRequest::Partition& partition);
  std::optional<SplitMemory::BatchId> IdOf(const TopicState& topic,
                                           const kafka::ProduceRequest::Partition& partition) const;
  io::Task<bool> LearnGreaterLimit(const std::string& topic, size_t size, proxy::Upstream& upstream);
  void RememberRefusal(const std::optional<SplitMemory::BatchId>& id, kafka::ErrorCode code);
  void NoteUnselected(const std::string& topic);
  void Count(const SealOutcome& outcome);
  void Report(const std::vector<Refused>& refused) const;

  SharedState& shared_;
  WorkerScratch& scratch_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  TopicLookup lookup_;
  LimitLookup limits_;
  bool orderIsLost_ = false;  // a refusal could not be remembered: nothing that follows may pass
};

}  // namespace kveil::guard
