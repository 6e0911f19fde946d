// The envelope, version 1: what the record header `kveil` holds, and what a sealed value is bound to.
// docs/envelope.md is the same byte by byte, with vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "crypto/key_id.h"

namespace kveil::crypto {

// The record header's key.
inline constexpr std::string_view kEnvelopeHeaderName = "kveil";

inline constexpr uint8_t kEnvelopeVersion = 1;

inline constexpr uint8_t kFlagInlineKey = 0x01;        // the wrapped scope key travels in the header
inline constexpr uint8_t kFlagCompressedValue = 0x02;  // the value is a zstd frame, compressed before sealing
inline constexpr uint8_t kFlagFieldsOnly = 0x04;       // only fields of the value are sealed
inline constexpr uint8_t kFlagMaskedKeyId = 0x08;      // the key id went through KeyIdMask
inline constexpr uint8_t kKnownFlags = kFlagInlineKey | kFlagCompressedValue | kFlagFieldsOnly | kFlagMaskedKeyId;

inline constexpr uint64_t kMaxRecordIndex = (1u << 21) - 1;  // three bytes of varint; then a new salt
inline constexpr size_t kMaxKekReferenceSize = 255;
inline constexpr size_t kMaxWrappedKeySize = 1023;

// version and suite, flags, key id, salt, period, record index
inline constexpr size_t kMaxEnvelopeHeaderByIdSize = 1 + 1 + 16 + 12 + 2 + 3;
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
  Bytes kekReference;  // with kFlagInlineKey only, then not empty; a view of the caller's bytes
  Bytes wrappedKey;    // likewise
};

// Writes the header value to `out`, which has room for kMaxEnvelopeHeaderSize bytes (kMaxEnvelopeHeaderByIdSize without
// kFlagInlineKey), and returns its size. The fields must be within the limits above.
size_t WriteEnvelopeHeader(const EnvelopeHeader& header, uint8_t* out);

// Reads a header value; the views in the result point into `value`. Strict: another version or suite, an unknown flag,
// a varint longer than it needs to be, a length beyond the limits or the value, and bytes left over are
// kInvalidArgument.
absl::StatusOr<EnvelopeHeader> ParseEnvelopeHeader(Bytes value);

// The header value as it was written. Kafka Connect's SimpleHeaderConverter turns it into base64 text on the way: that
// is decoded into `scratch`, anything else is returned as it is. Use the result for ParseEnvelopeHeader and BuildAad.
Bytes RestoreEnvelopeHeader(Bytes value, ByteBuffer& scratch);

// The additional data of a record: header value | varint length, topic | 0 for a null key, or 1, varint length, key.
// `out` is overwritten and keeps its capacity.
void BuildAad(Bytes headerValue, std::string_view topic, std::optional<Bytes> recordKey, ByteBuffer& out);

}  // namespace kveil::crypto
