#include "kafka/batch_split.h"

#include <algorithm>
#include <limits>

#include "base/status_macros.h"
#include "kafka/compression.h"
#include "kafka/record.h"
#include "kafka/varint.h"

namespace kveil::kafka {
namespace {

constexpr int64_t kSequences = int64_t{std::numeric_limits<int32_t>::max()} + 1;

// Widens a part's header for one more record.
absl::Status CountRecord(const RecordView& record, BatchHeader& header) {
  const uint8_t* cursor = record.timestampDelta.data();
  int64_t delta = 0;
  if (!ReadVarlong(cursor, cursor + record.timestampDelta.size(), delta)) {
    return absl::InvalidArgumentError("a record's timestamp delta is no varlong");
  }
  // Unsigned, as both are whatever a client sent.
  const auto timestamp =
      static_cast<int64_t>(static_cast<uint64_t>(header.baseTimestamp) + static_cast<uint64_t>(delta));
  header.maxTimestamp = header.count == 0 ? timestamp : std::max(header.maxTimestamp, timestamp);
  header.lastOffsetDelta = header.count++;
  return absl::OkStatus();
}

void AppendVarint(int32_t value, ByteBuffer& out) {
  uint8_t bytes[kMaxVarint32Size];
  Append(out, Between(bytes, WriteVarint(bytes, value)));
}

// The record with another offset delta.
void AppendRecord(const RecordView& record, int32_t offsetDelta, ByteBuffer& out) {
  const Bytes before = Between(record.beforeValue.begin(), record.offsetDeltaBytes.begin());
  const Bytes after = Between(record.offsetDeltaBytes.end(), record.whole.end());
  AppendVarint(static_cast<int32_t>(before.size() + VarintSize(offsetDelta) + after.size()), out);
  Append(out, before);
  AppendVarint(offsetDelta, out);
  Append(out, after);
}

// Where a part's records are once the buffer stays where it is.
struct Place {
  size_t start;
  size_t size;
};

}  // namespace

absl::StatusOr<std::vector<int32_t>> FilledCounts(const BatchPart& whole, size_t partSize, size_t growth,
                                                  size_t mostParts) {
  std::vector<int32_t> counts = {0};
  size_t size = kBatchHeaderSize;
  RecordReader reader(whole.records, whole.header.count);
  for (RecordView record; reader.Next(record);) {
    const size_t grown = record.whole.size() + (record.value.has_value() ? growth : 0);
    if (counts.back() > 0 && size + grown > partSize) {
      if (counts.size() > mostParts) return counts;
      counts.push_back(0);
      size = kBatchHeaderSize;
    }
    ++counts.back();
    size += grown;
  }
  RETURN_IF_ERROR(reader.status());
  return counts;
}

absl::StatusOr<std::vector<BatchPart>> Cut(const BatchPart& whole, absl::Span<const int32_t> counts,
                                           ByteBuffer& buffer) {
  buffer.clear();
  buffer.reserve(whole.records.size() + kTailPadding);
  std::vector<BatchPart> parts;
  std::vector<Place> places;
  RecordReader reader(whole.records, whole.header.count);
  int32_t first = 0;
  for (const int32_t count : counts) {
    BatchPart& part = parts.emplace_back(whole);
    part.header.count = 0;
    if (whole.header.isIdempotent()) {
      part.header.baseSequence = static_cast<int32_t>((int64_t{whole.header.baseSequence} + first) % kSequences);
    }
    const size_t start = buffer.size();
    size_t size = 0;
    for (RecordView record; part.header.count < count && reader.Next(record);) {
      if (record.offsetDelta != first + part.header.count) {
        return absl::InvalidArgumentError("a record's offset delta is not its place in the batch");
      }
      RETURN_IF_ERROR(CountRecord(record, part.header));
      size += record.whole.size();
      if (first > 0) AppendRecord(record, part.header.lastOffsetDelta, buffer);
    }
    places.push_back({.start = start, .size = first > 0 ? buffer.size() - start : size});
    first += count;
  }
  RecordView none;
  if (reader.Next(none)) return absl::InvalidArgumentError("more records than the parts have");
  RETURN_IF_ERROR(reader.status());
  buffer.reserve(buffer.size() + kTailPadding);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].records = (i == 0 ? whole.records : Bytes(buffer)).subspan(places[i].start, places[i].size);
  }
  return parts;
}

}  // namespace kveil::kafka
