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

// A batch that is not written yet: of the header's fields, length, CRC and codec say nothing of it.
struct BatchPart {
  BatchHeader header;
  Bytes records;  // not compressed
};

// How many records each part has when parts are filled in order, none beyond `partSize` bytes if every record that has
// a value grows by `growth` bytes. A record that is larger than that has a part of its own. Stops at `mostParts` + 1
// parts. It depends on nothing else, so that a batch that is sent again is cut alike. Errors as RecordReader has them.
absl::StatusOr<std::vector<int32_t>> FilledCounts(const BatchPart& whole, size_t partSize, size_t growth,
                                                  size_t mostParts);

// Cuts `whole` into parts of so many records, which are all there are. The records of all parts but the first are
// written to `buffer` (replacing its content, with kTailPadding readable bytes behind), as their offsets count from 0
// again. Sequence numbers (which wrap as DefaultRecordBatch.incrementSequence has it) and largest timestamps follow.
// Errors as RecordReader has them; kInvalidArgument also for a timestamp that is no varlong.
absl::StatusOr<std::vector<BatchPart>> Cut(const BatchPart& whole, absl::Span<const int32_t> counts,
                                           ByteBuffer& buffer);

}  // namespace kveil::kafka
