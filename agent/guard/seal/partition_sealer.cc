#include "guard/seal/partition_sealer.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/text.h"
#include "guard/seal/produced_batch.h"
#include "guard/worker/fetch_needs.h"
#include "io/turn.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using observe::RefuseReason;

// Nobody lowers a topic's limit to less than this, so that for topics of small batches nothing has to be asked.
constexpr size_t kAskForLimitAbove = 4 << 10;
// A batch is not refused for a limit that was learned longer ago than this.
constexpr std::chrono::seconds kBelieveLimitFor{5};

size_t Largest(const std::vector<SealedPart>& parts) {
  size_t largest = 0;
  for (const SealedPart& part : parts) largest = std::max(largest, part.size);
  return largest;
}

std::vector<SplitBatches::Part> PartsOf(const SealOutcome& outcome, Bytes bytes) {
  std::vector<SplitBatches::Part> parts;
  parts.reserve(outcome.parts.size());
  for (const SealedPart& part : outcome.parts) {
    parts.push_back({bytes.first(part.size), part.records});
    bytes = bytes.subspan(part.size);
  }
  return parts;
}

Refusal RefuseForMemory(Bytes records) {
  return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kOther, "kveil: there is no memory for it now",
                RecordCount(records));
}

Refusal RefuseToSplit(Bytes records) {
  return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kOutOfOrder,
                "kveil: more batches in parts are under way than are remembered", RecordCount(records));
}

// What is known counts only for batches that it was asked for: others stay whole, known or not.
void UseLimit(const TopicLimits::Limit& limit, SealTask& task) {
  if (!PartitionSealer::MayBeLarge(task.records, MostGrowthOf(*task.topic->seal))) return;
  task.topicLimit = limit.bytes;
  task.limitIsCertain = limit.isCertain;
}

}  // namespace

// By the bound that decides whether it is cut, without decompressing it.
bool PartitionSealer::MayBeLarge(Bytes records, size_t growth) {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(records);
  if (!header.has_value()) return false;
  if (header->codec() != kafka::Codec::kNone) return true;
  return records.size() + static_cast<size_t>(std::max(header->count, 0)) * growth > kAskForLimitAbove;
}

SealTask PartitionSealer::TaskFor(const policy::TopicPolicy& sealedBy, std::string_view topic, Bytes records,
                                  const ProduceJob& job) const {
  SealTask task;
  task.topic = &sealedBy;
  task.topicName = topic;
  task.cluster = connection_.cluster;
  task.records = records;
  task.zstdAllowed = job.version >= ProduceRequest::kFirstVersionWithZstd;
  task.batchLimit = shared_.limits.batchSize;
  task.usersLimit = shared_.limits.batchUsers;
  return task;
}

// What comes of it is sealed or refused. A consent that ends while a key is waited for is none any more. So a batch
// that is sent again may be refused, though the broker has it; what is sealed of it does not depend on the time.
io::Task<SealOutcome> PartitionSealer::SealWithItsNeeds(SealTask& task, const ProduceJob& job, ByteBuffer& bytes) {
  for (;;) {
    task.now = absl::Now();
    SealOutcome outcome = SealBatch(task, scratch_, bytes);
    if (outcome.kind != SealOutcome::Kind::kNeeds) co_return outcome;
    shared_.metrics.KeyCacheMisses(outcome.needs.keys.scopes.size());
    if (std::chrono::steady_clock::now() > job.deadline) {
      const Problem problem = outcome.needs.NotToBeHad();
      outcome.kind = SealOutcome::Kind::kRefused;
      outcome.refusal = Refuse(ErrorCode::kNotEnoughReplicas, problem.reason, StrCat("kveil: ", problem.message),
                               RecordCount(task.records));
      co_return outcome;
    }
    auto fetching = FetchNeeds(loop_, scratch_, connection_.workload, std::move(outcome.needs), job.deadline);
    (void)co_await std::move(fetching);  // what could not be had is missing again
  }
}

io::Task<std::optional<Refusal>> PartitionSealer::Seal(const ProducedTopic& topic, ProduceJob& job,
                                                       ProduceRequest::Partition& partition, Sealed& sealed) {
  SealTask task = TaskFor(*topic.sealedBy, *topic.name, *partition.records, job);
  if (topic.writers.has_value()) {
    task.writers = &*topic.writers;
    task.writer = &connection_.workload;
  }
  task.isAudited = scratch_.audit != nullptr && (task.writers != nullptr || topic.sealedBy->auditsUsers);
  UseLimit(limits_.Of(task.topicName), task);
  task.batchLimit = std::min(task.batchLimit, job.room);
  std::optional<SplitMemory::Split> before;
  if (!shared_.splits.empty() && job.isAnswered) sealed.id = IdOf(topic, partition);
  if (sealed.id.has_value()) before = shared_.splits.Find(*sealed.id, SplitMemory::Clock::now());
  if (before.has_value()) {
    // The producer has to begin a new epoch, as it has for what the broker finds out of order.
    if (before->isAnothers) {
      co_return Refuse(ErrorCode::kOutOfOrderSequenceNumber, RefuseReason::kOutOfOrder,
                       "kveil: another batch with this sequence number failed, and a part of it may be in the log",
                       RecordCount(task.records));
    }
    if (before->isTaken) {
      sealed.takenAt = before->baseOffset;
      co_return std::nullopt;
    }
    task.partSize = before->partSize;
  }
  if (!job.arena.TryReserve(task.records.size())) co_return RefuseForMemory(task.records);
  ByteBuffer& bytes = job.arena.NewBuffer(task.records.size());
  SealOutcome outcome;
  size_t worked = 0;
  for (;;) {
    auto sealing = SealWithItsNeeds(task, job, bytes);
    outcome = co_await std::move(sealing);
    // Whatever becomes of it, it was work.
    if (worked == 0) {
      worked = scratch_.decompressedBytes;
      job.room -= std::min(job.room, worked);
    }
    if (outcome.kind == SealOutcome::Kind::kRefused) co_return std::move(outcome.refusal);
    const size_t largest = Largest(outcome.parts);
    const TopicLimits::Limit limit = limits_.Of(task.topicName);
    if (largest <= limit.bytes || !limit.isCertain) break;
    auto learning = LearnGreaterLimit(*topic.name, limit.bytes, job.upstream);
    const bool isGreater = co_await std::move(learning);
    // What the broker would refuse is refused here: the broker takes any first sequence from a producer that it does
    // not know, so a smaller batch behind this one would get in before it, and its parts could not follow any more.
    if (!isGreater) {
      co_return Refuse(ErrorCode::kMessageTooLarge, RefuseReason::kTooLarge,
                       StrCat("kveil: sealed, the batch has ", largest, " bytes, and the topic's max.message.bytes is ",
                              limit.bytes),
                       RecordCount(task.records));
    }
    UseLimit(limits_.Of(task.topicName), task);
    bytes.clear();
  }
  Count(outcome);
  job.room -= std::min(job.room, bytes.size() - std::min(bytes.size(), worked));
  std::optional<Refusal> refusal = Keep(topic, task, outcome, bytes, partition, sealed);
  if (!refusal.has_value())
    TellAudit(scratch_, AuditedOf(topic, connection_), {.records = outcome.sealed}, outcome.audit);
  co_return refusal;
}

// Notes how a batch is sent that was sealed into `bytes`, and puts what goes with the request in its place.
std::optional<Refusal> PartitionSealer::Keep(const ProducedTopic& topic, const SealTask& task,
                                             const SealOutcome& outcome, Bytes bytes,
                                             ProduceRequest::Partition& partition, Sealed& sealed) {
  sealed.parts = PartsOf(outcome, bytes);
  const size_t largest = Largest(outcome.parts);
  if (!task.limitIsCertain && largest > kAskForLimitAbove && largest > limits_.Of(*topic.name).proven) {
    sealed.unknownLimit = {.topic = *topic.name, .sealedBy = topic.sealedBy, .records = task.records};
  }
  const bool isSplit = sealed.parts.size() > 1;
  if (isSplit || sealed.unknownLimit.has_value()) {
    if (!sealed.id.has_value()) sealed.id = IdOf(topic, partition);
    if (isSplit && !Remember(sealed.id, outcome.partSize)) return RefuseToSplit(task.records);
  }
  partition.records = sealed.parts.back().batch;
  return std::nullopt;
}

io::Task<bool> PartitionSealer::CutSmaller(SplitBatches& split, ProduceJob& job) {
  bool isAny = false;
  io::Turn turn(loop_);
  for (SplitBatches::Batch& batch : split.batches()) {
    if (!batch.MayBeCutSmaller()) continue;
    co_await turn.Pause();
    auto cutting = CutSmaller(batch, job);
    std::optional<Refusal> refusal = co_await std::move(cutting);
    if (refusal.has_value()) {
      batch.refusal = *std::move(refusal);
    } else {
      isAny = true;
    }
  }
  if (isAny) job.arena.ReturnRest();
  co_return isAny;
}

// Each batch once, so that a request's work is at most doubled.
io::Task<std::optional<Refusal>> PartitionSealer::CutSmaller(SplitBatches::Batch& batch, ProduceJob& job) {
  const SplitBatches::UnknownLimit& limit = *batch.unknownLimit;
  const Bytes records = std::exchange(batch.unknownLimit->records, Bytes());
  SealTask task = TaskFor(*limit.sealedBy, limit.topic, records, job);
  task.topicLimit = 0;  // the parts are no larger than it came
  task.limitIsCertain = false;
  task.firstRecord = batch.recordsTaken;
  if (!job.arena.TryReserve(task.records.size())) co_return RefuseForMemory(task.records);
  ByteBuffer& bytes = job.arena.NewBuffer(task.records.size());
  auto sealing = SealWithItsNeeds(task, job, bytes);
  SealOutcome outcome = co_await std::move(sealing);
  job.arena.CountGrowth();
  if (outcome.kind == SealOutcome::Kind::kRefused) {
    job.arena.DropNewest();
    co_return std::move(outcome.refusal);
  }
  if (batch.parts.size() == 1 && outcome.parts.size() > 1) {
    if (!Remember(batch.id, 0)) co_return RefuseToSplit(task.records);
    shared_.metrics.BatchesSplit(1);
  }
  batch.CutSmaller(PartsOf(outcome, bytes));
  co_return std::nullopt;
}

// Whether the batch, if it is an idempotent producer's, may be sent in parts.
bool PartitionSealer::Remember(const std::optional<SplitMemory::BatchId>& id, size_t partSize) {
  if (!id.has_value() || shared_.splits.Remember(*id, partSize, SplitMemory::Clock::now())) return true;
  shared_.NotRemembered();
  return false;
}

// Of an idempotent producer's batch.
std::optional<SplitMemory::BatchId> PartitionSealer::IdOf(const ProducedTopic& topic,
                                                          const ProduceRequest::Partition& partition) const {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(partition.records.value_or(Bytes()));
  if (!header.has_value() || !header->isIdempotent()) return std::nullopt;
  SplitMemory::BatchId id;
  id.producer.producerId = header->producerId;
  id.producer.producerEpoch = header->producerEpoch;
  id.producer.workload = connection_.workload.share;
  id.producer.cluster = connection_.cluster;
  id.producer.topic = topic.wireName;
  id.producer.partition = partition.index;
  id.baseSequence = header->baseSequence;
  id.records = header->count;
  id.crc = header->crc;
  return id;
}

// An operator may have raised it since it was learned.
io::Task<bool> PartitionSealer::LearnGreaterLimit(const std::string& topic, size_t size, proxy::Upstream& upstream) {
  if (TopicLimits::Clock::now() - limits_.Of(topic).learned <= kBelieveLimitFor) co_return false;
  auto learning = limits_.Learn({topic}, upstream);
  co_await std::move(learning);
  co_return limits_.Of(topic).bytes > size;
}

void PartitionSealer::Count(const SealOutcome& outcome) {
  shared_.metrics.RecordsSealed(outcome.sealed);
  connection_.tally->records.sealed += outcome.sealed;
  if (outcome.afterErasure > 0) shared_.metrics.RecordsAfterErasure(outcome.afterErasure);
  if (outcome.parts.size() > 1) shared_.metrics.BatchesSplit(1);
  shared_.metrics.KeyCacheHits(outcome.keysUsed);
}

}  // namespace kveil::guard
