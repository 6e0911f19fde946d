// What is read of a produced batch before it is sealed, or in place of that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "guard/refuse/refusal.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/batch_split.h"
#include "kafka/record_batch.h"

namespace kveil::guard {

// nullopt where the records do not begin with a batch of magic 2.
inline std::optional<kafka::BatchHeader> FirstBatchHeader(Bytes records) {
  kafka::BatchReader reader(records);
  kafka::BatchView batch;
  if (reader.Next(batch) != kafka::BatchReader::Result::kBatch || batch.isLegacy()) return std::nullopt;
  return batch.header;
}

// At least 1.
inline uint64_t RecordCount(Bytes records) {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(records);
  return header.has_value() && header->count > 0 ? static_cast<uint64_t>(header->count) : 1;
}

// Reads the one batch of magic 2 that a produce request may hold for a partition, or returns why it is refused.
std::optional<Refusal> ReadOnlyBatch(Bytes records, kafka::BatchView& batch);

// Bytes that a batch of these records comes to at most, on the way to a reader: as it is sealed, as it is opened, or
// with empty masks for all of its records. `growth`: of a record that is sealed (batch_sealer.h).
size_t SizeToOpen(const kafka::BatchPart& part, size_t growth);

// Decompresses the batch's records, or returns why it is refused. What `limit` (bytes of a batch after decompression)
// lets be sealed, it also lets be opened. Notes scratch.decompressedBytes.
std::optional<Refusal> ReadRecords(const kafka::BatchView& batch, size_t limit, size_t growth, WorkerScratch& scratch,
                                   Bytes& records);

// Why records of a topic that is not sealed, but that readers get through a policy, may not be forwarded; nullopt: they
// may. It is for what would be refused in a sealed topic, whatever its rule: a record with an envelope, above all. What
// is sealed elsewhere would otherwise come back here with headers and times of the writer's choice, which no envelope
// vouches for, and what nobody can open would stop all readers. Messages of format 0 and 1 have no headers. Does not
// suspend.
std::optional<Refusal> CheckUnsealed(Bytes records, size_t limit, WorkerScratch& scratch);

}  // namespace kveil::guard
