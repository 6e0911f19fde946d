// Seals the batch of one partition of a Produce request: with its keys at hand, and so that its topic takes it.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guard/learn/limit_lookup.h"
#include "guard/seal/batch_sealer.h"
#include "guard/seal/split_batches.h"
#include "guard/stages/audit.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "identity/claims.h"
#include "io/loop.h"
#include "kafka/messages/produce.h"
#include "policy/policy.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// A Produce request that is being worked on.
struct ProduceJob {
  int16_t version = 0;
  bool isAnswered = true;  // what it asks for
  std::shared_ptr<const policy::Policy> policies;
  std::shared_ptr<const identity::Claims> claims;  // of whoever produces
  proxy::Upstream& upstream;
  proxy::Arena& arena;
  std::chrono::steady_clock::time_point deadline;  // for keys
  size_t room = 0;                                 // bytes that sealed batches may still take
};

// A topic of it, and what is known of that.
struct ProducedTopic {
  std::string wireName;  // as the request has it: the name, or the id as text
  std::optional<std::string> name;
  const policy::TopicPolicy* policy = nullptr;    // null: it has none, or no name
  const policy::TopicPolicy* sealedBy = nullptr;  // null: nothing of it is sealed
  bool isUnselected = false;                      // it has a name, not an internal one, and no policy has an entry
  bool isRefused = false;                         // because it is unselected
  bool isDenied = false;                          // no entry of `write` fits the workload
  // Readers get its records through a policy, as they come from the broker.
  bool isUnsealed() const { return policy != nullptr && sealedBy == nullptr && !isDenied; }
  // Where it may write some records only: the entries of sealedBy->write that fit it.
  std::optional<policy::EntrySet> writers;
  // Where it may write every record: the first entry of policy->write that lets it; none without `write`.
  std::optional<size_t> entry;
};

// For the audit trail. `topic` has a name.
inline Audited AuditedOf(const ProducedTopic& topic, const proxy::ConnectionInfo& connection) {
  return {.workload = connection.workload,
          .cluster = connection.cluster,
          .topic = *topic.name,
          .policy = topic.policy,
          .access = audit::Access::kWrite,
          .entry = topic.entry};
}

// One a connection.
class PartitionSealer {
 public:
  // What a partition's batch is sealed into, if it is; and where the broker has it, if it does.
  struct Sealed {
    std::vector<SplitBatches::Part> parts;
    std::optional<SplitMemory::BatchId> id;
    std::optional<SplitBatches::UnknownLimit> unknownLimit;
    std::optional<int64_t> takenAt;
  };

  PartitionSealer(SharedState& shared, WorkerScratch& scratch, io::Loop& loop, const proxy::ConnectionInfo& connection)
      : shared_(shared),
        scratch_(scratch),
        loop_(loop),
        connection_(connection),
        limits_(shared.topicLimits, connection) {}

  LimitLookup& limits() { return limits_; }

  // Whether the batch may be too large for its topic when it is sealed, so that the topic's limit has to be known.
  // `growth`: of each record, as of MostGrowthOf.
  static bool MayBeLarge(Bytes records, size_t growth);

  // Seals the batch of a topic that is sealed, and puts what goes with the request in its place. Returns why it may not
  // be forwarded, if that is so.
  io::Task<std::optional<Refusal>> Seal(const ProducedTopic& topic, ProduceJob& job,
                                        kafka::ProduceRequest::Partition& partition, Sealed& sealed);

  // Cuts what the broker found too large into parts that are no larger than each batch came, where that is smaller.
  // Returns whether any may be sent now.
  io::Task<bool> CutSmaller(SplitBatches& split, ProduceJob& job);

  // Of an idempotent producer's batch.
  std::optional<SplitMemory::BatchId> IdOf(const ProducedTopic& topic,
                                           const kafka::ProduceRequest::Partition& partition) const;

 private:
  SealTask TaskFor(const policy::TopicPolicy& sealedBy, std::string_view topic, Bytes records,
                   const ProduceJob& job) const;
  io::Task<SealOutcome> SealWithItsNeeds(SealTask& task, const ProduceJob& job, ByteBuffer& bytes);
  io::Task<std::optional<Refusal>> CutSmaller(SplitBatches::Batch& batch, ProduceJob& job);
  bool Remember(const std::optional<SplitMemory::BatchId>& id, size_t partSize);
  std::optional<Refusal> Keep(const ProducedTopic& topic, const SealTask& task, const SealOutcome& outcome, Bytes bytes,
                              kafka::ProduceRequest::Partition& partition, Sealed& sealed);
  io::Task<bool> LearnGreaterLimit(const std::string& topic, size_t size, proxy::Upstream& upstream);
  void Count(const SealOutcome& outcome);

  SharedState& shared_;
  WorkerScratch& scratch_;
  io::Loop& loop_;
  const proxy::ConnectionInfo& connection_;
  LimitLookup limits_;
};

}  // namespace kveil::guard
