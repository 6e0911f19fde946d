// What is read of a produced batch before it is looked into.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
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

}  // namespace kveil::guard
