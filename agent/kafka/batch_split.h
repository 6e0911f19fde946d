// Cuts a batch of magic 2 into several, as a producer would have filled them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "kafka/record_batch.h"

namespace kveil::kafka {

// A batch that is not written yet. Length, CRC and codec in the header mean nothing.
struct BatchPart {
  BatchHeader header;
  Bytes records;  // not compressed
};

// Returns how many records each part has if parts are filled in order and none gets larger than `partSize` bytes when
// every record with a value grows by `growth` bytes. A record that is larger than that gets a part of its own. Stops at
// `mostParts` + 1 parts. Depends on nothing else, so a batch that is sent again is cut in the same way. Errors are
// those of RecordReader.
absl::StatusOr<std::vector<int32_t>> FilledCounts(const BatchPart& whole, size_t partSize, size_t growth,
                                                  size_t mostParts);

// Cuts `whole` into parts of `counts` records, which must be all of them. The records of all parts except the first are
// written to `buffer`, because their offset deltas start at 0 again. That replaces the buffer's content and leaves
// kTailPadding readable bytes behind it. Sequence numbers (which wrap as in DefaultRecordBatch.incrementSequence) and
// largest timestamps are adjusted. Errors are those of RecordReader; kInvalidArgument also for a timestamp that is not
// a varlong, and for an offset delta that is not the record's place in `whole`.
absl::StatusOr<std::vector<BatchPart>> Cut(const BatchPart& whole, absl::Span<const int32_t> counts,
                                           ByteBuffer& buffer);

}  // namespace kveil::kafka
