// The records inside a batch of magic 2 (KIP-98), uncompressed: readers that walk them in place.
//
//   RecordReader reader(payload, batch.header.count);
//   RecordView record;
//   while (reader.Next(record)) { ... }
//   if (!reader.status().ok()) ...   // malformed, fewer or more records than the count says
//
// Nothing is copied or allocated; the views are valid as long as the payload.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "base/bytes.h"

namespace kveil::kafka {

struct RecordView {
  int8_t attributes = 0;
  Bytes timestampDelta;  // the raw varlong: it is copied, never recomputed
  int32_t offsetDelta = 0;
  Bytes offsetDeltaBytes;  // the same as raw varint
  std::optional<Bytes> key;
  std::optional<Bytes> value;
  int32_t headerCount = 0;
  Bytes headers;      // raw bytes of all headers, without the count; HeaderReader checks and walks them
  Bytes beforeValue;  // attributes, deltas and key as they are: what every rewritten record keeps
  Bytes whole;        // the record with its length
};

class RecordReader {
 public:
  RecordReader(Bytes records, int32_t count);

  // The next record, or false at the end: then status() says whether it was the right one.
  bool Next(RecordView& record);
  // OK while all is well; kInvalidArgument names what is wrong and in which record, never its content.
  absl::Status status() const;

 private:
  bool Fail(const char* problem);

  const uint8_t* cursor_;
  const uint8_t* end_;
  int32_t count_;
  int32_t index_ = 0;
  const char* problem_ = nullptr;
};

struct HeaderView {
  std::string_view key;
  std::optional<Bytes> value;
  Bytes whole;  // the header with its lengths
};

// Walks RecordView::headers. The same usage as RecordReader.
class HeaderReader {
 public:
  explicit HeaderReader(const RecordView& record) : HeaderReader(record.headers, record.headerCount) {}
  HeaderReader(Bytes headers, int32_t count);

  bool Next(HeaderView& header);
  absl::Status status() const;

 private:
  bool Fail(const char* problem);

  const uint8_t* cursor_;
  const uint8_t* end_;
  int32_t left_;
  const char* problem_ = nullptr;
};

}  // namespace kveil::kafka
