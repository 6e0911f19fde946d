#include "guard/batch_sealer.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "base/text.h"
#include "crypto/envelope.h"
#include "kafka/batch_split.h"
#include "kafka/record_batch.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using observe::RefuseReason;

// What an envelope adds at least: the header's name and lengths, version, flags, key id, salt, index, and the tag.
constexpr size_t kLeastGrowth = 1 + crypto::kEnvelopeHeaderName.size() + 1 + (1 + 1 + 16 + 12 + 1) + crypto::kTagSize;
// And at most: with longer varints and an index of three bytes.
constexpr size_t kMostGrowth = kLeastGrowth + 8;
// A batch is sent in no more parts than this: one of many more is one that decompresses to much.
constexpr size_t kMostParts = 16;

Refusal Refuse(RefuseReason reason, std::string message, uint64_t recordCount = 1) {
  return guard::Refuse(ErrorCode::kInvalidRecord, reason, std::move(message), recordCount);
}

// Bytes of the part's batch, not compressed, when each record has grown by that much.
size_t SizeAfter(const kafka::BatchPart& part, size_t growth) {
  return kafka::kBatchHeaderSize + part.records.size() + static_cast<size_t>(part.header.count) * growth;
}

SealOutcome RefusedOutcome(Refusal refusal) {
  SealOutcome outcome;
  outcome.kind = SealOutcome::Kind::kRefused;
  outcome.refusal = std::move(refusal);
  return outcome;
}

// The one batch that a produce request may hold for a partition, or why it is refused.
std::optional<Refusal> ReadOnlyBatch(Bytes records, kafka::BatchView& batch) {
  kafka::BatchReader reader(records);
  switch (reader.Next(batch)) {
    case kafka::BatchReader::Result::kBatch:
      break;
    case kafka::BatchReader::Result::kEnd:
      return Refuse(RefuseReason::kMalformed, "kveil: the partition holds no record batch");
    case kafka::BatchReader::Result::kPartial:
      return Refuse(RefuseReason::kMalformed, "kveil: the record batch ends early");
    case kafka::BatchReader::Result::kMalformed:
      return Refuse(RefuseReason::kMalformed, StrCat("kveil: ", reader.status().message()));
  }
  if (batch.isLegacy()) {
    return Refuse(RefuseReason::kOldFormat, "kveil: message format 0 or 1 has no headers and cannot be sealed");
  }
  if (!reader.rest().empty()) {
    return Refuse(RefuseReason::kMalformed, "kveil: more than one record batch for the partition");
  }
  if (batch.header.count < 1) return Refuse(RefuseReason::kMalformed, "kveil: the record batch has no record");
  const auto count = static_cast<uint64_t>(batch.header.count);
  if (!kafka::CheckCrc(batch).ok()) {
    return Refuse(RefuseReason::kBadChecksum, "kveil: the record batch's checksum is wrong", count);
  }
  if (batch.header.isControl()) {
    return Refuse(RefuseReason::kMalformed, "kveil: a client may not write control batches", count);
  }
  if (batch.header.count > static_cast<int64_t>(crypto::kMaxRecordIndex)) {
    return Refuse(RefuseReason::kTooLarge, "kveil: more than two million records in one batch", count);
  }
  return std::nullopt;
}

// One part, as one batch: compressed where it would be too large otherwise, as that shrinks what sealing adds. Of a
// record that is alone, and so cannot be put into a smaller batch, the value is compressed too.
SealOutcome SealPart(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& part, ByteBuffer& out) {
  kafka::Codec codec = part.header.codec();
  const kafka::Codec forGrowth = task.zstdAllowed ? kafka::Codec::kZstd : kafka::Codec::kLz4;
  const bool isAlone = part.header.count == 1;
  const size_t start = out.size();
  // Here where it is certain to be needed, below where it turns out to be.
  bool tooLarge = codec == kafka::Codec::kNone && SizeAfter(part, kLeastGrowth) > task.topicLimit;
  for (;;) {
    if (tooLarge) codec = forGrowth;
    const bool compressValues =
        task.topic->seal->compressValues && (part.header.codec() != kafka::Codec::kNone || (tooLarge && isAlone));
    SealPass pass(task, scratch, part, compressValues);
    pass.Run(out);
    if (pass.refused() || pass.missing()) {
      scratch.writer.Abandon();
      return pass.TakeOutcome();
    }
    const absl::Status finished = scratch.writer.Finish(codec);
    if (!finished.ok()) {
      return RefusedOutcome(Refuse(RefuseReason::kTooLarge, StrCat("kveil: ", finished.message()),
                                   static_cast<uint64_t>(part.header.count)));
    }
    const size_t size = out.size() - start;
    if (codec == forGrowth || size <= task.topicLimit || (pass.sealedBytes() > task.topicLimit && !isAlone)) {
      SealOutcome outcome = pass.TakeOutcome();
      outcome.parts.push_back({.size = size, .records = part.header.count});
      return outcome;
    }
    out.resize(start);
    tooLarge = true;
  }
}

// Bytes that the part's values come to when they are sealed as they are; no compression makes that less.
size_t SealedValueBytes(const kafka::BatchPart& part) {
  size_t bytes = 0;
  kafka::RecordReader reader(part.records, part.header.count);
  for (kafka::RecordView record; reader.Next(record);) {
    if (record.value.has_value()) bytes += record.value->size() + crypto::kTagSize;
  }
  return bytes;
}

SealOutcome SealInParts(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& whole,
                        absl::Span<const int32_t> counts, ByteBuffer& out) {
  SealOutcome sum;
  ByteBuffer buffer;
  const absl::StatusOr<std::vector<kafka::BatchPart>> parts = kafka::Cut(whole, counts, buffer);
  if (!parts.ok()) {
    return RefusedOutcome(Refuse(RefuseReason::kMalformed, StrCat("kveil: ", parts.status().message()),
                                 static_cast<uint64_t>(whole.header.count)));
  }
  for (const kafka::BatchPart& part : *parts) {
    SealOutcome outcome = SealPart(task, scratch, part, out);
    if (outcome.kind != SealOutcome::Kind::kSealed) return outcome;
    sum.sealed += outcome.sealed;
    sum.keysUsed += outcome.keysUsed;
    sum.afterErasure += outcome.afterErasure;
    sum.parts.push_back(outcome.parts.front());
  }
  return sum;
}

bool AllFit(const SealOutcome& outcome, size_t limit) {
  return std::all_of(outcome.parts.begin(), outcome.parts.end(),
                     [limit](const SealedPart& part) { return part.size <= limit; });
}

// The batch whole where that fits, else in as few parts as will do, or whole and too large where none will.
SealOutcome SealAsNeeded(const SealTask& task, WorkerScratch& scratch, const kafka::BatchPart& whole, ByteBuffer& out) {
  const size_t start = out.size();
  if (!task.partCounts.empty()) {
    SealOutcome settled = SealInParts(task, scratch, whole, task.partCounts, out);
    if (settled.kind == SealOutcome::Kind::kSealed) return settled;
    out.resize(start);
    return SealPart(task, scratch, whole, out);
  }
  // Where offsets and records do not agree, the batch is the broker's to refuse.
  const bool maySplit = whole.header.count > 1 && whole.header.lastOffsetDelta == whole.header.count - 1;
  size_t size = SizeAfter(whole, kMostGrowth);
  if (!maySplit || whole.header.codec() != kafka::Codec::kNone || size <= task.topicLimit ||
      SealedValueBytes(whole) <= task.topicLimit) {
    SealOutcome outcome = SealPart(task, scratch, whole, out);
    if (outcome.kind != SealOutcome::Kind::kSealed || !maySplit || AllFit(outcome, task.topicLimit)) return outcome;
    size = outcome.parts.front().size;
    if (size / task.topicLimit >= kMostParts) return outcome;
    out.resize(start);
  }
  const size_t most = std::min(kMostParts, static_cast<size_t>(whole.header.count));
  size_t parts = size / (task.topicLimit - task.topicLimit / 16) + 1;
  for (; parts <= most; parts = parts < most ? std::min(2 * parts, most) : most + 1) {
    const absl::StatusOr<std::vector<int32_t>> counts = kafka::EvenCounts(whole, parts);
    if (!counts.ok()) break;
    SealOutcome outcome = SealInParts(task, scratch, whole, *counts, out);
    if (outcome.kind == SealOutcome::Kind::kSealed && AllFit(outcome, task.topicLimit)) return outcome;
    out.resize(start);
    if (outcome.kind != SealOutcome::Kind::kSealed) break;
  }
  // Too large for good; or something is wrong or missing, which is told of the whole batch.
  return SealPart(task, scratch, whole, out);
}

}  // namespace

SealOutcome SealBatch(const SealTask& task, WorkerScratch& scratch, ByteBuffer& out) {
  kafka::BatchView batch;
  if (std::optional<Refusal> refusal = ReadOnlyBatch(task.records, batch); refusal.has_value()) {
    return RefusedOutcome(*std::move(refusal));
  }
  const absl::StatusOr<Bytes> records = kafka::UncompressedRecords(batch, task.batchLimit, scratch.records);
  if (!records.ok()) {
    const bool tooLarge = absl::IsResourceExhausted(records.status());
    return RefusedOutcome(Refuse(tooLarge ? RefuseReason::kTooLarge : RefuseReason::kMalformed,
                                 StrCat("kveil: ", records.status().message()),
                                 static_cast<uint64_t>(batch.header.count)));
  }
  scratch.keyCache.Refresh();
  // What is too large for the broker as it came is the broker's to refuse: it stays too large.
  SealTask part = task;
  if (batch.whole.size() > task.topicLimit) part.topicLimit = std::numeric_limits<size_t>::max();
  return SealAsNeeded(part, scratch, {.header = batch.header, .records = *records}, out);
}

}  // namespace kveil::guard
