// The envelope, version 1: what the record header `kveil` holds, and what a sealed value is bound to.
// docs/envelope.md is the same byte by byte, with vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/short_runs.h"
#include "crypto/key_id.h"

namespace kveil::crypto {

// The record header's key.
inline constexpr std::string_view kEnvelopeHeaderName = "kveil";

inline constexpr uint8_t kEnvelopeVersion = 1;

inline constexpr uint8_t kFlagInlineKey = 0x01;        // the wrapped scope key travels in the header
inline constexpr uint8_t kFlagCompressedValue = 0x02;  // the value is a zstd frame, compressed before sealing
inline constexpr uint8_t kFlagFieldsOnly = 0x04;       // only fields of the value are sealed
inline constexpr uint8_t kFlagMaskedKeyId = 0x08;      // the key id went through KeyIdMask
inline constexpr uint8_t kFlagUnderKek = 0x10;         // sealed under KeyUnderKek of the scope key and a KEK key
inline constexpr uint8_t kKnownFlags =
    kFlagInlineKey | kFlagCompressedValue | kFlagFieldsOnly | kFlagMaskedKeyId | kFlagUnderKek;

inline constexpr uint64_t kMaxRecordIndex = (1u << 21) - 1;  // three bytes of varint; then a new salt
inline constexpr size_t kMaxKekReferenceSize = 255;
inline constexpr size_t kMaxWrappedKeySize = 1023;

// version and suite, flags, key id, salt, period, record index
inline constexpr size_t kMaxEnvelopeHeaderOfOneKeySize = 1 + 1 + 16 + 12 + 2 + 3;
// the same, then the KEK key's id
inline constexpr size_t kMaxEnvelopeHeaderByIdSize = kMaxEnvelopeHeaderOfOneKeySize + 16;
// the same, then KEK reference and wrapped scope key, each with two bytes of length
inline constexpr size_t kMaxEnvelopeHeaderSize =
    kMaxEnvelopeHeaderByIdSize + 2 + kMaxKekReferenceSize + 2 + kMaxWrappedKeySize;

struct EnvelopeHeader {
  Suite suite = Suite::kBatchKey;
  uint8_t flags = 0;
  KeyId keyId;  // as it travels: masked when kFlagMaskedKeyId is set
  Salt salt;
  Period period = 0;  // kPeriodKey only
  uint64_t recordIndex = 0;
  KeyId kekKeyId;      // with kFlagUnderKek only: of the KEK key, never masked
  Bytes kekReference;  // with kFlagInlineKey only, then not empty; a view of the caller's bytes
  Bytes wrappedKey;    // likewise
};

// Writes the header value to `out`, which has room for kMaxEnvelopeHeaderSize bytes (kMaxEnvelopeHeaderByIdSize without
// kFlagInlineKey), and returns its size. The fields must be within the limits above.
inline size_t WriteEnvelopeHeader(const EnvelopeHeader& header, uint8_t* out);

// Reads a header value; the views in the result point into `value`. Strict: another version or suite, an unknown flag,
// a varint longer than it needs to be, a length beyond the limits or the value, and bytes left over are
// kInvalidArgument.
absl::StatusOr<EnvelopeHeader> ParseEnvelopeHeader(Bytes value);
// The same in place, for many records. What the flags do not announce stays as it was; so does, after an error,
// whatever was not read.
absl::Status ParseEnvelopeHeader(Bytes value, EnvelopeHeader& header);

// The header value as it was written. Kafka Connect's SimpleHeaderConverter turns it into base64 text on the way: that
// is decoded into `scratch`, anything else is returned as it is. Use the result for ParseEnvelopeHeader and TopicAad.
inline Bytes RestoreEnvelopeHeader(Bytes value, ByteBuffer& scratch);

// The additional data of records of one topic, one after the other: header value | varint length, topic | 0 for a null
// key, or 1, varint length, key. The topic is written once: a header value goes in front of it, a key behind it.
class TopicAad {
 public:
  explicit TopicAad(std::string_view topic);

  // The additional data of one record, valid until the next call. The header value has at most kMaxEnvelopeHeaderSize
  // bytes.
  Bytes Of(Bytes headerValue, const std::optional<Bytes>& recordKey) {
    uint8_t* const start = memory_.data() + kMaxEnvelopeHeaderSize - headerValue.size();
    CopyRun(start, headerValue);
    if (recordKey.has_value()) return WithKey(headerValue.size(), *recordKey);
    memory_[topicEnd_] = 0;
    return Between(start, memory_.data() + topicEnd_ + 1);
  }

 private:
  Bytes WithKey(size_t headerSize, Bytes key);

  ByteBuffer memory_;
  size_t topicEnd_;
};

// What is below is for inlining: these run once per record.

namespace internal {

// Unsigned LEB128, as Kafka's unsigned varint. Returns where the next byte goes.
inline uint8_t* WriteVarint(uint64_t value, uint8_t* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value) | 0x80;
  *out++ = static_cast<uint8_t>(value);
  return out;
}

uint8_t* WriteInlineKey(Bytes kekReference, Bytes wrappedKey, uint8_t* out);
Bytes RestoreFromBase64(Bytes value, ByteBuffer& scratch);

}  // namespace internal

size_t WriteEnvelopeHeader(const EnvelopeHeader& header, uint8_t* out) {
  uint8_t* end = out;
  *end++ = static_cast<uint8_t>(kEnvelopeVersion << 4 | static_cast<uint8_t>(header.suite));
  *end++ = header.flags;
  std::memcpy(end, header.keyId.bytes.data(), sizeof(header.keyId.bytes));
  end += sizeof(header.keyId.bytes);
  std::memcpy(end, header.salt.bytes.data(), sizeof(header.salt.bytes));
  end += sizeof(header.salt.bytes);
  if (header.suite == Suite::kPeriodKey) {
    *end++ = static_cast<uint8_t>(header.period >> 8);
    *end++ = static_cast<uint8_t>(header.period);
  }
  end = internal::WriteVarint(header.recordIndex, end);
  if (header.flags & kFlagUnderKek) {
    std::memcpy(end, header.kekKeyId.bytes.data(), sizeof(header.kekKeyId.bytes));
    end += sizeof(header.kekKeyId.bytes);
  }
  if (header.flags & kFlagInlineKey) end = internal::WriteInlineKey(header.kekReference, header.wrappedKey, end);
  return static_cast<size_t>(end - out);
}

Bytes RestoreEnvelopeHeader(Bytes value, ByteBuffer& scratch) {
  // 'E' (0x45) begins the base64 of every version 1 header, and no header of this version begins with it.
  if (value.empty() || value[0] != 'E') return value;
  return internal::RestoreFromBase64(value, scratch);
}

}  // namespace kveil::crypto
