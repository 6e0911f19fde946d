#include "guard/partition_sealer.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "guard/key_wait.h"
#include "guard/produced_batch.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using observe::RefuseReason;

constexpr int16_t kFirstVersionWithZstd = 7;
// Nobody lowers a topic's limit to less than this, so that for topics of small batches nothing has to be asked.
constexpr size_t kAskForLimitAbove = 4 << 10;
// A batch is not refused for a limit that was learned longer ago than this.
constexpr std::chrono::seconds kBelieveLimitFor{5};

size_t Largest(const std::vector<SealedPart>& parts) {
  size_t largest = 0;
  for (const SealedPart& part : parts) largest = std::max(largest, part.size);
  return largest;
}

// What is known counts only for batches that it was asked for: others stay whole, known or not.
void UseLimit(const TopicLimits::Limit& limit, SealTask& task) {
  if (!PartitionSealer::MayBeLarge(task.records)) return;
  task.topicLimit = limit.bytes;
  task.limitIsCertain = limit.isCertain;
}

}  // namespace

// By the bound that decides whether it is cut, without decompressing it.
bool PartitionSealer::MayBeLarge(Bytes records) {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(records);
  if (!header.has_value()) return false;
  if (header->codec() != kafka::Codec::kNone) return true;
  return records.size() + static_cast<size_t>(std::max(header->count, 0)) * kMostGrowth > kAskForLimitAbove;
}

io::Task<std::optional<Refusal>> PartitionSealer::Seal(const ProducedTopic& topic, ProduceJob& job,
                                                       ProduceRequest::Partition& partition, Sealed& sealed) {
  SealTask task;
  task.topic = topic.sealedBy;
  task.topicName = *topic.name;
  task.cluster = connection_.cluster;
  task.records = *partition.records;
  task.zstdAllowed = job.version >= kFirstVersionWithZstd;
  UseLimit(limits_.Of(task.topicName), task);
  task.batchLimit = std::min(shared_.limits.batchSize, job.room);
  task.usersLimit = shared_.limits.batchUsers;
  std::optional<SplitMemory::Split> before;
  if (!shared_.splits.empty() && job.isAnswered) sealed.id = IdOf(topic, partition);
  if (sealed.id.has_value()) before = shared_.splits.Find(*sealed.id, SplitMemory::Clock::now());
  if (before.has_value()) {
    // The producer has to begin a new epoch, as it has for what the broker finds out of order.
    if (before->isAnothers) {
      co_return Refuse(ErrorCode::kOutOfOrderSequenceNumber, RefuseReason::kOutOfOrder,
                       "kveil: another batch with this sequence number failed, and a part of it may be in the log",
                       RecordCount(partition));
    }
    if (before->isTaken) {
      sealed.takenAt = before->baseOffset;
      co_return std::nullopt;
    }
    task.partSize = before->partSize;
  }
  if (!job.arena.TryReserve(task.records.size())) {
    co_return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kOther, "kveil: there is no memory for it now",
                     RecordCount(partition));
  }
  ByteBuffer& bytes = job.arena.NewBuffer(task.records.size());
  SealOutcome outcome;
  size_t worked = 0;
  for (;;) {
    outcome = SealBatch(task, scratch_, bytes);
    // Whatever becomes of it, it was work.
    if (worked == 0) {
      worked = scratch_.decompressedBytes;
      job.room -= std::min(job.room, worked);
    }
    if (outcome.kind == SealOutcome::Kind::kRefused) co_return std::move(outcome.refusal);
    if (outcome.kind == SealOutcome::Kind::kMissingKeys) {
      shared_.metrics.KeyCacheMisses(outcome.misses.scopes.size());
      if (std::chrono::steady_clock::now() > job.deadline) {
        co_return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kKeysUnavailable,
                         "kveil: the keys cannot be reached now", RecordCount(partition));
      }
      auto fetching = FetchKeys(loop_, scratch_.keyCache, scratch_.keyRoom, connection_.workload,
                                std::move(outcome.misses), job.deadline);
      (void)co_await std::move(fetching);  // what could not be had is missing again
      continue;
    }
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
                       RecordCount(partition));
    }
    UseLimit(limits_.Of(task.topicName), task);
    bytes.clear();
  }
  Count(outcome);
  job.room -= std::min(job.room, bytes.size() - std::min(bytes.size(), worked));
  co_return Keep(topic, task, outcome, bytes, partition, sealed);
}

// Notes how a batch is sent that was sealed into `bytes`, and puts what goes with the request in its place.
std::optional<Refusal> PartitionSealer::Keep(const ProducedTopic& topic, const SealTask& task,
                                             const SealOutcome& outcome, Bytes bytes,
                                             ProduceRequest::Partition& partition, Sealed& sealed) {
  for (const SealedPart& part : outcome.parts) {
    sealed.parts.push_back({bytes.first(part.size), part.records});
    bytes = bytes.subspan(part.size);
  }
  const size_t largest = Largest(outcome.parts);
  if (!task.limitIsCertain && largest > kAskForLimitAbove && largest > limits_.Of(*topic.name).proven) {
    sealed.unknownLimit = {.topic = *topic.name, .isAssumed = task.topicLimit > 0};
  }
  const bool isSplit = sealed.parts.size() > 1;
  if (isSplit || sealed.unknownLimit.has_value()) {
    if (!sealed.id.has_value()) sealed.id = IdOf(topic, partition);
    if (isSplit && sealed.id.has_value() &&
        !shared_.splits.Remember(*sealed.id, outcome.partSize, SplitMemory::Clock::now())) {
      shared_.NotRemembered();
      return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kOutOfOrder,
                    "kveil: more batches in parts are under way than are remembered", RecordCount(partition));
    }
  }
  partition.records = sealed.parts.back().batch;
  return std::nullopt;
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
  if (outcome.afterErasure > 0) shared_.metrics.RecordsAfterErasure(outcome.afterErasure);
  if (outcome.parts.size() > 1) shared_.metrics.BatchesSplit(1);
  shared_.metrics.KeyCacheHits(outcome.keysUsed);
}

}  // namespace kveil::guard
