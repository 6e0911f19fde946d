#include "guard/seal/batch_sealer.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "guard/seal/produced_batch.h"
#include "guard/seal/seal_pass.h"
#include "guard/stages/identify.h"
#include "kafka/batch_split.h"
#include "kafka/record_batch.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using observe::RefuseReason;

constexpr size_t GrowthBy(size_t header) {
  return 1 + crypto::kEnvelopeHeaderName.size() + 1 + header + crypto::kTagSize + 3;
}
static_assert(kMostGrowth >= GrowthBy(crypto::kMaxEnvelopeHeaderOfOneKeySize));
static_assert(kMostGrowthOfUsers >= GrowthBy(crypto::kMaxEnvelopeHeaderByIdSize));
// A batch is sent in no more parts than this: one of many more is one that decompresses to much.
constexpr size_t kMostParts = 128;

SealOutcome RefusedOutcome(Refusal refusal) {
  SealOutcome outcome;
  outcome.kind = SealOutcome::Kind::kRefused;
  outcome.refusal = std::move(refusal);
  return outcome;
}

SealOutcome SealAs(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, kafka::Codec codec,
                   policy::CompressValues compress, ByteBuffer& out) {
  const size_t start = out.size();
  SealPass pass(task, scratch, part, compress);
  SealOutcome outcome = pass.Run(out);
  if (outcome.kind != SealOutcome::Kind::kSealed) {
    scratch.writer.Abandon();
    return outcome;
  }
  const absl::Status finished = scratch.writer.Finish(codec);
  if (!finished.ok()) {
    return RefusedOutcome(RefuseInvalid(RefuseReason::kTooLarge, StrCat("kveil: ", finished.message()),
                                        static_cast<uint64_t>(part.header.count)));
  }
  outcome.parts.push_back({.size = out.size() - start, .records = part.header.count});
  return outcome;
}

// One part, as one batch of at most `most` bytes where that can be.
SealOutcome SealPart(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, size_t most,
                     ByteBuffer& out) {
  const size_t start = out.size();
  const policy::CompressValues ofTopic = task.topic->seal->compress;
  const kafka::Codec codec = part.header.codec();
  const policy::CompressValues compress = codec == kafka::Codec::kNone ? policy::CompressValues::kNever : ofTopic;
  SealOutcome outcome = SealAs(task, scratch, part, codec, compress, out);
  if (outcome.kind != SealOutcome::Kind::kSealed || outcome.parts.front().size <= most) return outcome;
  if (part.header.count == 1) {
    // A record that is alone cannot be put into a smaller batch. Compressed, it would have to be opened within a limit.
    if (SizeToOpen(part, MostGrowthOf(*task.topic->seal)) > task.batchLimit) return outcome;
    out.resize(start);
    const kafka::Codec strong = task.zstdAllowed ? kafka::Codec::kZstd : kafka::Codec::kLz4;
    return SealAs(task, scratch, part, strong, ofTopic, out);
  }
  // Sealed values do not compress, and what the codec adds to them is too much for a part that is full.
  if (codec == kafka::Codec::kNone) return outcome;
  out.resize(start);
  return SealAs(task, scratch, part, kafka::Codec::kNone, compress, out);
}

Refusal RefuseToCut(const absl::Status& status, const kafka::BatchPart& whole) {
  return RefuseInvalid(RefuseReason::kMalformed, StrCat("kveil: ", status.message()),
                       static_cast<uint64_t>(whole.header.count));
}

SealOutcome SealInParts(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& whole,
                        absl::Span<const int32_t> counts, size_t most, ByteBuffer& out) {
  SealOutcome sum;
  ByteBuffer buffer;
  const absl::StatusOr<std::vector<kafka::BatchPart>> parts = kafka::Cut(whole, counts, buffer);
  if (!parts.ok()) return RefusedOutcome(RefuseToCut(parts.status(), whole));
  for (const kafka::BatchPart& part : *parts) {
    SealOutcome outcome = SealPart(task, scratch, part, most, out);
    if (outcome.kind != SealOutcome::Kind::kSealed) return outcome;
    sum.sealed += outcome.sealed;
    sum.keysUsed += outcome.keysUsed;
    sum.afterErasure += outcome.afterErasure;
    sum.audit.Add(outcome.audit);
    sum.parts.push_back(outcome.parts.front());
  }
  return sum;
}

// The bytes that the parts of a batch are filled to. `size`: those of the batch as it came, which the broker would have
// taken. A limit beyond Kafka's default counts as that, so that raising it changes nothing for a batch that is under
// way.
size_t PartSize(const SealTask& task, size_t size) {
  const size_t most = std::max(size, task.topicLimit);
  if (task.partSize > 0 && task.partSize <= most) return task.partSize;
  return std::max(size, std::min(task.topicLimit, TopicLimits::kDefault));
}

// The batch whole where that is certain to fit, else in as few parts as will do. `size`: as above.
SealOutcome SealAsNeeded(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& whole, size_t size,
                         ByteBuffer& out) {
  // What is too large for the broker as it came is the broker's to refuse: it stays too large.
  if (task.limitIsCertain && size > task.topicLimit) {
    return SealPart(task, scratch, whole, std::numeric_limits<size_t>::max(), out);
  }
  const size_t most = std::max(size, task.topicLimit);
  const size_t partSize = PartSize(task, size);
  const auto count = static_cast<size_t>(whole.header.count);
  const size_t growth = MostGrowthOf(*task.topic->seal);
  // Where offsets and records do not agree, the batch is the broker's to refuse.
  const bool maySplit = count > 1 && whole.header.lastOffsetDelta == whole.header.count - 1;
  if (!maySplit || kafka::kBatchHeaderSize + whole.records.size() + count * growth <= partSize) {
    return SealPart(task, scratch, whole, most, out);
  }
  const absl::StatusOr<std::vector<int32_t>> counts = kafka::FilledCounts(whole, partSize, growth, kMostParts);
  // What is wrong with a record is told of the whole batch.
  if (!counts.ok() || counts->size() == 1) return SealPart(task, scratch, whole, most, out);
  if (counts->size() > kMostParts) {
    return RefusedOutcome(Refuse(ErrorCode::kMessageTooLarge, RefuseReason::kTooLarge,
                                 StrCat("kveil: sealed, the batch would have to be sent in more than ", kMostParts,
                                        " parts of ", partSize, " bytes"),
                                 count));
  }
  const size_t start = out.size();
  SealOutcome outcome = SealInParts(task, scratch, whole, *counts, most, out);
  outcome.partSize = partSize;
  if (outcome.kind == SealOutcome::Kind::kSealed) return outcome;
  out.resize(start);
  return SealPart(task, scratch, whole, most, out);
}

SealOutcome SealRest(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& whole, size_t size,
                     ByteBuffer& out) {
  const int32_t counts[] = {task.firstRecord, whole.header.count - task.firstRecord};
  ByteBuffer buffer;
  const absl::StatusOr<std::vector<kafka::BatchPart>> parts = kafka::Cut(whole, counts, buffer);
  if (!parts.ok()) return RefusedOutcome(RefuseToCut(parts.status(), whole));
  // A part is in the log. Before the rest is refused for being too many parts, they may be larger than it came: perhaps
  // the broker takes them.
  const kafka::BatchPart& behind = parts->back();
  const size_t most =
      behind.records.size() + static_cast<size_t>(behind.header.count) * MostGrowthOf(*task.topic->seal);
  SealTask rest = task;
  rest.topicLimit = std::max(task.topicLimit, most / (kMostParts / 2 - 1));
  return SealAsNeeded(rest, scratch, behind, size, out);
}

}  // namespace

SealOutcome SealBatch(const SealTask& task, WorkerScratch& scratch, ByteBuffer& out) {
  const absl::Cleanup trim = [&scratch] { scratch.Trim(); };
  scratch.decompressedBytes = 0;
  scratch.ruleWork = 0;
  kafka::BatchView batch;
  if (std::optional<Refusal> refusal = ReadOnlyBatch(task.records, batch); refusal.has_value()) {
    return RefusedOutcome(*std::move(refusal));
  }
  Bytes records;
  if (std::optional<Refusal> refusal =
          ReadRecords(batch, task.batchLimit, MostGrowthOf(*task.topic->seal), scratch, records);
      refusal.has_value()) {
    return RefusedOutcome(*std::move(refusal));
  }
  const kafka::BatchPart whole{.header = batch.header, .records = records};
  // It would need the keys of all of them at once. Most batches have not even as many records.
  if (HasMoreUsersThan(task.usersLimit, *task.topic->seal, records, batch.header.count, scratch.userFinder)) {
    // Clients that can (the Java client) send such a batch again in smaller ones.
    return RefusedOutcome(
        Refuse(ErrorCode::kMessageTooLarge, RefuseReason::kTooLarge,
               StrCat("kveil: the batch has records of more than ", task.usersLimit, " users (limits.batchUsers)"),
               static_cast<uint64_t>(batch.header.count)));
  }
  scratch.keyCache.Refresh();
  if (task.firstRecord > 0) return SealRest(task, scratch, whole, batch.whole.size(), out);
  return SealAsNeeded(task, scratch, whole, batch.whole.size(), out);
}

}  // namespace kveil::guard
