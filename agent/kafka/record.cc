// How records and their headers are walked.
#include "kafka/record.h"

#include "base/text.h"
#include "kafka/varint.h"

namespace kveil::kafka {
namespace {

[[gnu::noinline]] const uint8_t* ReadLongInteger(const uint8_t* cursor, const uint8_t* end, int32_t& value) {
  return ReadVarint(cursor, end, value) ? cursor : nullptr;
}

// ReadVarint without a call for integers of one and two bytes, and with a cursor that stays in a register.
[[gnu::always_inline]] inline bool ReadInteger(const uint8_t*& cursor, const uint8_t* end, int32_t& value) {
  uint32_t raw;
  if (cursor != end && cursor[0] < 0x80) [[likely]] {
    raw = cursor[0];
    cursor += 1;
  } else if (end - cursor >= 2 && cursor[1] < 0x80) [[likely]] {
    raw = static_cast<uint32_t>((cursor[0] & 0x7f) | (cursor[1] << 7));
    cursor += 2;
  } else {
    int32_t large = 0;
    const uint8_t* const behind = ReadLongInteger(cursor, end, large);
    if (behind == nullptr) return false;
    cursor = behind;
    value = large;
    return true;
  }
  value = static_cast<int32_t>((raw >> 1) ^ (0u - (raw & 1)));
  return true;
}

// Advances over a zigzag length and as many bytes; -1 is null.
[[gnu::always_inline]] inline bool ReadNullable(const uint8_t*& cursor, const uint8_t* end,
                                                std::optional<Bytes>& bytes) {
  int32_t length;
  if (!ReadInteger(cursor, end, length)) return false;
  if (length < 0) {
    bytes.reset();
    return length == -1;
  }
  if (length > end - cursor) return false;
  bytes.emplace(cursor, static_cast<size_t>(length));
  cursor += length;
  return true;
}

// Advances over a varlong without computing it.
inline bool SkipVarlong(const uint8_t*& cursor, const uint8_t* end) {
  const uint8_t* last = static_cast<size_t>(end - cursor) > kMaxVarint64Size ? cursor + kMaxVarint64Size : end;
  while (cursor != last) {
    if (*cursor++ < 0x80) return true;
  }
  return false;
}

}  // namespace

RecordReader::RecordReader(Bytes records, int32_t count)
    : cursor_(records.data()), end_(records.data() + records.size()), count_(count) {
  if (count < 0) problem_ = "the batch has a negative record count";
}

bool RecordReader::Fail(const char* problem) {
  problem_ = problem;
  return false;
}

bool RecordReader::Next(RecordView& record) {
  if (problem_ != nullptr) return false;
  if (index_ == count_) return cursor_ == end_ ? false : Fail("bytes are left after the last record");
  const uint8_t* cursor = cursor_;
  int32_t length = 0;
  if (!ReadInteger(cursor, end_, length) || length < 1 || length > end_ - cursor) {
    return Fail(cursor_ == end_ ? "the batch has fewer records than its count" : "bad record length");
  }
  const uint8_t* const start = cursor;
  const uint8_t* const end = cursor + length;
  record.attributes = static_cast<int8_t>(*cursor++);
  const uint8_t* field = cursor;
  if (!SkipVarlong(cursor, end)) return Fail("bad timestamp delta");
  record.timestampDelta = Between(field, cursor);
  field = cursor;
  if (!ReadInteger(cursor, end, record.offsetDelta)) return Fail("bad offset delta");
  record.offsetDeltaBytes = Between(field, cursor);
  if (!ReadNullable(cursor, end, record.key)) return Fail("bad key length");
  record.beforeValue = Between(start, cursor);
  if (!ReadNullable(cursor, end, record.value)) return Fail("bad value length");
  if (!ReadInteger(cursor, end, record.headerCount)) return Fail("bad header count");
  record.headers = Between(cursor, end);
  // A header is two bytes at least.
  const int64_t mostHeaders = (end - cursor) / 2;
  if (record.headerCount < 0 || record.headerCount > mostHeaders || (record.headerCount == 0 && cursor != end)) {
    return Fail("the header count does not fit the record's length");
  }
  record.whole = Between(cursor_, end);
  cursor_ = end;
  ++index_;
  return true;
}

absl::Status RecordReader::status() const {
  if (problem_ == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("record ", index_, " of ", count_, ": ", problem_));
}

HeaderReader::HeaderReader(Bytes headers, int32_t count)
    : cursor_(headers.data()), end_(headers.data() + headers.size()), left_(count) {}

bool HeaderReader::Fail(const char* problem) {
  problem_ = problem;
  return false;
}

bool HeaderReader::Next(HeaderView& header) {
  if (problem_ != nullptr) return false;
  if (left_ <= 0) return cursor_ == end_ ? false : Fail("bytes are left after the last record header");
  const uint8_t* cursor = cursor_;
  std::optional<Bytes> key;
  if (!ReadNullable(cursor, end_, key) || !key.has_value()) return Fail("bad record header key length");
  if (!ReadNullable(cursor, end_, header.value)) return Fail("bad record header value length");
  header.key = AsText(*key);
  header.whole = Between(cursor_, cursor);
  cursor_ = cursor;
  --left_;
  return true;
}

absl::Status HeaderReader::status() const {
  return problem_ == nullptr ? absl::OkStatus() : absl::InvalidArgumentError(problem_);
}

}  // namespace kveil::kafka
