// Produce: seals the batches of protected topics, and answers for those that may not be forwarded.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guard/batch_sealer.h"
#include "guard/shared_state.h"
#include "guard/topic_lookup.h"
#include "guard/worker_scratch.h"
#include "kafka/messages/produce.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

class ProduceGuard : public proxy::Interceptor {
 public:
  ProduceGuard(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared), scratch_(scratch), loop_(loop), connection_(connection), lookup_(shared.topicNames) {}

  std::vector<kafka::ApiKey> Wants() const override { return {kafka::ApiKey::kProduce}; }
  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                            proxy::FrameOutput& output) override;
  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                              proxy::FrameOutput& output) override;

 private:
  // A partition whose records stay here.
  struct Refused {
    std::string topic;  // until version 12
    kafka::TopicId topicId;
    std::string name;  // for the log; empty while an id's name is not known
    int32_t partition = 0;
    Refusal refusal;
  };
  struct State;
  enum class Changed { kNo, kYes };
  struct Limits {
    std::chrono::steady_clock::time_point deadline;  // for keys
    size_t room = 0;                                 // bytes that sealed batches may still take
  };

  // A topic of a request, and what is known of it.
  struct TopicState {
    std::string wireName;  // as the request has it: the name, or the id as text
    std::optional<std::string> name;
    const policy::TopicPolicy* sealedBy = nullptr;  // null: nothing of it is sealed
  };

  std::vector<std::string> TopicsWithoutLimit(const kafka::ProduceRequest& request, int16_t version,
                                              const policy::Policy& policies) const;
  io::Task<void> LearnLimits(std::vector<std::string> topics, proxy::Upstream& upstream);
  TopicLimits::Limit LimitOf(std::string_view topic) const;
  io::Task<Changed> SealTopics(kafka::ProduceRequest& request, int16_t version, proxy::Upstream& upstream,
                               proxy::Arena& arena, std::vector<Refused>& refused);
  TopicState StateOf(const kafka::ProduceRequest::Topic& topic, int16_t version, const policy::Policy& policies) const;
  io::Task<std::optional<Refusal>> SealPartition(const TopicState& topic, int16_t version, Limits& limits,
                                                 kafka::ProduceRequest::Partition& partition, proxy::Upstream& upstream,
                                                 proxy::Arena& arena);
  io::Task<std::optional<Refusal>> SealRecords(const TopicState& topic, int16_t version, Limits& limits,
                                               kafka::ProduceRequest::Partition& partition, proxy::Upstream& upstream,
                                               proxy::Arena& arena);
  std::optional<Refusal> RefusedBefore(const TopicState& topic, const kafka::ProduceRequest::Partition& partition);
  void RememberRefusal(const TopicState& topic, const kafka::ProduceRequest::Partition& partition,
                       const Refusal& refusal);
  ProducerPartition KeyOf(const kafka::BatchHeader& header, const TopicState& topic, int32_t partition) const;
  void Count(const SealOutcome& outcome);
  void Report(const std::vector<Refused>& refused) const;

  SharedState& shared_;
  WorkerScratch& scratch_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  TopicLookup lookup_;
};

}  // namespace kveil::guard
