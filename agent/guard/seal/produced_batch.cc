#include "guard/seal/produced_batch.h"

#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "guard/seal/batch_sealer.h"
#include "guard/stages/validate.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

uint64_t CountOf(const kafka::BatchView& batch) { return static_cast<uint64_t>(batch.header.count); }

// Whether these are messages of format 0 or 1 and nothing else.
bool AreLegacy(Bytes records) {
  kafka::BatchReader reader(records);
  kafka::BatchView message;
  kafka::BatchReader::Result next = reader.Next(message);
  while (next == kafka::BatchReader::Result::kBatch && message.isLegacy()) next = reader.Next(message);
  return next == kafka::BatchReader::Result::kEnd;
}

}  // namespace

std::optional<Refusal> ReadOnlyBatch(Bytes records, kafka::BatchView& batch) {
  kafka::BatchReader reader(records);
  switch (reader.Next(batch)) {
    case kafka::BatchReader::Result::kBatch:
      break;
    case kafka::BatchReader::Result::kEnd:
      return RefuseInvalid(RefuseReason::kMalformed, "kveil: the partition holds no record batch");
    case kafka::BatchReader::Result::kPartial:
      return RefuseInvalid(RefuseReason::kMalformed, "kveil: the record batch ends early");
    case kafka::BatchReader::Result::kMalformed:
      return RefuseInvalid(RefuseReason::kMalformed, StrCat("kveil: ", reader.status().message()));
  }
  if (batch.isLegacy()) {
    return RefuseInvalid(RefuseReason::kOldFormat, "kveil: message format 0 or 1 has no headers and cannot be sealed");
  }
  if (!reader.rest().empty()) {
    return RefuseInvalid(RefuseReason::kMalformed, "kveil: more than one record batch for the partition");
  }
  if (batch.header.count < 1) return RefuseInvalid(RefuseReason::kMalformed, "kveil: the record batch has no record");
  if (!kafka::CheckCrc(batch).ok()) {
    return RefuseInvalid(RefuseReason::kBadChecksum, "kveil: the record batch's checksum is wrong", CountOf(batch));
  }
  if (batch.header.isControl()) {
    return RefuseInvalid(RefuseReason::kMalformed, "kveil: a client may not write control batches", CountOf(batch));
  }
  if (batch.header.count > static_cast<int64_t>(crypto::kMaxRecordIndex)) {
    return RefuseInvalid(RefuseReason::kTooLarge, "kveil: more than two million records in one batch", CountOf(batch));
  }
  return std::nullopt;
}

size_t SizeToOpen(const kafka::BatchPart& part, size_t growth) {
  return kafka::kBatchHeaderSize + part.records.size() + static_cast<size_t>(part.header.count) * growth;
}

std::optional<Refusal> ReadRecords(const kafka::BatchView& batch, size_t limit, size_t growth, WorkerScratch& scratch,
                                   Bytes& records) {
  const absl::StatusOr<Bytes> read = kafka::UncompressedRecords(batch, limit, scratch.records);
  const bool isCompressed = batch.header.codec() != kafka::Codec::kNone;
  if (isCompressed) scratch.decompressedBytes = scratch.records.size();
  if (!read.ok()) {
    const bool isTooLarge = absl::IsResourceExhausted(read.status());
    return RefuseInvalid(isTooLarge ? RefuseReason::kTooLarge : RefuseReason::kMalformed,
                         StrCat("kveil: ", read.status().message()), CountOf(batch));
  }
  // No limit holds for a batch that is not compressed, nor for what it becomes.
  if (isCompressed && SizeToOpen({.header = batch.header, .records = *read}, growth) > limit) {
    return RefuseInvalid(RefuseReason::kTooLarge, "kveil: sealed, the batch decompresses to more than the limit",
                         CountOf(batch));
  }
  records = *read;
  return std::nullopt;
}

std::optional<Refusal> CheckUnsealed(Bytes records, size_t limit, WorkerScratch& scratch) {
  const absl::Cleanup trim = [&scratch] { scratch.Trim(); };
  scratch.decompressedBytes = 0;
  kafka::BatchView batch;
  std::optional<Refusal> refusal = ReadOnlyBatch(records, batch);
  if (refusal.has_value() && refusal->reason == RefuseReason::kOldFormat && AreLegacy(records)) return std::nullopt;
  Bytes uncompressed;
  if (!refusal.has_value()) refusal = ReadRecords(batch, limit, kMostGrowth, scratch, uncompressed);
  if (refusal.has_value()) return refusal;
  const ValidateProduced validate;
  kafka::RecordReader reader(uncompressed, batch.header.count);
  kafka::RecordView record;
  for (int32_t index = 0; reader.Next(record); ++index) {
    const std::optional<Problem> problem = validate.Of(record, index);
    if (!problem.has_value()) continue;
    refusal = RefuseInvalid(problem->reason, StrCat("kveil: ", problem->message), CountOf(batch));
    refusal->records.push_back({.index = index, .message = std::string(problem->message)});
    return refusal;
  }
  if (reader.status().ok()) return std::nullopt;
  return RefuseInvalid(RefuseReason::kMalformed, StrCat("kveil: ", reader.status().message()), CountOf(batch));
}

}  // namespace kveil::guard
