// Builds record batches field by field, without the code under test: for tests that read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"

namespace kveil::kafka::testing {

using Text = std::optional<std::string>;

struct TestRecord {
  Text key;
  Text value;
  std::vector<std::pair<std::string, Text>> headers;
  int64_t timestampDelta = 0;
  int32_t offsetDelta = 0;
};

struct TestBatch {
  int64_t baseOffset = 0;
  int32_t leaderEpoch = 7;
  int16_t attributes = 0;
  int32_t lastOffsetDelta = 0;
  int64_t baseTimestamp = 1700000000000;
  int64_t maxTimestamp = 1700000000500;
  int64_t producerId = 4711;
  int16_t producerEpoch = 3;
  int32_t baseSequence = 100;
  int32_t count = 0;
};

inline void PutBigEndian(ByteBuffer& out, uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

inline void PutVarlong(ByteBuffer& out, int64_t value) {
  uint64_t raw = (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
  for (; raw >= 0x80; raw >>= 7) out.push_back(static_cast<uint8_t>(raw | 0x80));
  out.push_back(static_cast<uint8_t>(raw));
}

inline void PutText(ByteBuffer& out, const Text& text) {
  PutVarlong(out, text.has_value() ? static_cast<int64_t>(text->size()) : -1);
  if (text.has_value()) Append(out, AsBytes(*text));
}

inline ByteBuffer RecordBytes(const TestRecord& record) {
  ByteBuffer body;
  body.push_back(0);
  PutVarlong(body, record.timestampDelta);
  PutVarlong(body, record.offsetDelta);
  PutText(body, record.key);
  PutText(body, record.value);
  PutVarlong(body, static_cast<int64_t>(record.headers.size()));
  for (const auto& [key, value] : record.headers) {
    PutText(body, key);
    PutText(body, value);
  }
  ByteBuffer whole;
  PutVarlong(whole, static_cast<int64_t>(body.size()));
  Append(whole, body);
  return whole;
}

inline ByteBuffer RecordsBytes(const std::vector<TestRecord>& records) {
  ByteBuffer out;
  for (const TestRecord& record : records) {
    const ByteBuffer bytes = RecordBytes(record);
    Append(out, bytes);
  }
  return out;
}

// CRC-32C bit by bit.
inline uint32_t SlowCrc32c(Bytes bytes) {
  uint32_t crc = ~uint32_t{0};
  for (const uint8_t byte : bytes) {
    crc ^= byte;
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

inline ByteBuffer BatchBytes(const TestBatch& batch, Bytes payload) {
  ByteBuffer covered;
  PutBigEndian(covered, static_cast<uint16_t>(batch.attributes), 2);
  PutBigEndian(covered, static_cast<uint32_t>(batch.lastOffsetDelta), 4);
  PutBigEndian(covered, static_cast<uint64_t>(batch.baseTimestamp), 8);
  PutBigEndian(covered, static_cast<uint64_t>(batch.maxTimestamp), 8);
  PutBigEndian(covered, static_cast<uint64_t>(batch.producerId), 8);
  PutBigEndian(covered, static_cast<uint16_t>(batch.producerEpoch), 2);
  PutBigEndian(covered, static_cast<uint32_t>(batch.baseSequence), 4);
  PutBigEndian(covered, static_cast<uint32_t>(batch.count), 4);
  Append(covered, payload);
  ByteBuffer out;
  PutBigEndian(out, static_cast<uint64_t>(batch.baseOffset), 8);
  PutBigEndian(out, 4 + 1 + 4 + covered.size(), 4);
  PutBigEndian(out, static_cast<uint32_t>(batch.leaderEpoch), 4);
  out.push_back(2);
  PutBigEndian(out, SlowCrc32c(covered), 4);
  Append(out, covered);
  return out;
}

// An uncompressed batch of these records, offset deltas 0, 1, 2, ...
inline ByteBuffer BatchBytes(TestBatch batch, std::vector<TestRecord> records) {
  for (size_t i = 0; i < records.size(); ++i) records[i].offsetDelta = static_cast<int32_t>(i);
  batch.count = static_cast<int32_t>(records.size());
  batch.lastOffsetDelta = batch.count - 1;
  return BatchBytes(batch, RecordsBytes(records));
}

}  // namespace kveil::kafka::testing
