// Writes and reads the record header's value, and builds the additional data.
#include "crypto/envelope.h"

#include <string.h>

#include <string>

#include "absl/strings/escaping.h"
#include "base/text.h"

namespace kveil::crypto {
namespace {

constexpr size_t kMaxVarintSize = 10;
constexpr size_t kFixedSize = 1 + 1 + 16 + 12;

// Unsigned LEB128, as Kafka's unsigned varint. Returns where the next byte goes.
uint8_t* WriteVarint(uint64_t value, uint8_t* out) {
  for (; value >= 0x80; value >>= 7) *out++ = static_cast<uint8_t>(value) | 0x80;
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// Takes a varint of up to `maxValue` off the front of `rest`. False when it is cut short, too large or longer than it
// needs to be: two spellings of one header would be two different additional data.
bool TakeVarint(Bytes& rest, uint64_t maxValue, uint64_t& value) {
  value = 0;
  for (size_t i = 0; i < rest.size() && i < 4; ++i) {
    value |= static_cast<uint64_t>(rest[i] & 0x7f) << (7 * i);
    if (rest[i] & 0x80) continue;
    if (i > 0 && rest[i] == 0) return false;
    rest.remove_prefix(i + 1);
    return value <= maxValue;
  }
  return false;
}

uint8_t* WriteBytes(Bytes bytes, uint8_t* out) {
  if (!bytes.empty()) memcpy(out, bytes.data(), bytes.size());
  return out + bytes.size();
}

// Takes a length of up to `maxSize` and that many bytes, at least one.
bool TakeSizedBytes(Bytes& rest, size_t maxSize, Bytes& bytes) {
  uint64_t size = 0;
  if (!TakeVarint(rest, maxSize, size) || size == 0 || size > rest.size()) return false;
  bytes = rest.first(size);
  rest.remove_prefix(size);
  return true;
}

absl::Status Bad(std::string_view what) { return absl::InvalidArgumentError(StrCat("envelope header: ", what)); }

uint8_t* WriteSized(Bytes bytes, uint8_t* out) { return WriteBytes(bytes, WriteVarint(bytes.size(), out)); }

}  // namespace

size_t WriteEnvelopeHeader(const EnvelopeHeader& header, uint8_t* out) {
  uint8_t* end = out;
  *end++ = static_cast<uint8_t>(kEnvelopeVersion << 4 | static_cast<uint8_t>(header.suite));
  *end++ = header.flags;
  end = WriteBytes(header.keyId.bytes, end);
  end = WriteBytes(header.salt.bytes, end);
  if (header.suite == Suite::kPeriodKey) {
    *end++ = static_cast<uint8_t>(header.period >> 8);
    *end++ = static_cast<uint8_t>(header.period);
  }
  end = WriteVarint(header.recordIndex, end);
  if (header.flags & kFlagInlineKey) {
    end = WriteSized(header.kekReference, end);
    end = WriteSized(header.wrappedKey, end);
  }
  return static_cast<size_t>(end - out);
}

absl::StatusOr<EnvelopeHeader> ParseEnvelopeHeader(Bytes value) {
  if (value.size() < kFixedSize + 1) return Bad("cut short");
  if (value[0] >> 4 != kEnvelopeVersion) return Bad(StrCat("version ", value[0] >> 4, " is not known, only 1 is"));
  const auto suite = static_cast<Suite>(value[0] & 0x0f);
  if (suite != Suite::kBatchKey && suite != Suite::kPeriodKey) {
    return Bad(StrCat("suite ", value[0] & 0x0f, " is not known, only 1 and 2 (AES-256-GCM) are"));
  }
  if (value[1] & ~kKnownFlags) return Bad("it has flags that are not known");
  EnvelopeHeader header;
  header.suite = suite;
  header.flags = value[1];
  memcpy(header.keyId.bytes.data(), &value[2], header.keyId.bytes.size());
  memcpy(header.salt.bytes.data(), &value[2 + header.keyId.bytes.size()], header.salt.bytes.size());
  Bytes rest = value.subspan(kFixedSize);
  if (suite == Suite::kPeriodKey) {
    if (rest.size() < 2) return Bad("cut short");
    header.period = static_cast<Period>(rest[0] << 8 | rest[1]);
    rest.remove_prefix(2);
  }
  if (!TakeVarint(rest, kMaxRecordIndex, header.recordIndex)) return Bad("the record index is malformed");
  if (header.flags & kFlagInlineKey) {
    if (!TakeSizedBytes(rest, kMaxKekReferenceSize, header.kekReference)) return Bad("the KEK reference is malformed");
    if (!TakeSizedBytes(rest, kMaxWrappedKeySize, header.wrappedKey)) return Bad("the wrapped key is malformed");
  }
  if (!rest.empty()) return Bad("bytes are left over");
  return header;
}

Bytes RestoreEnvelopeHeader(Bytes value, ByteBuffer& scratch) {
  // 'E' (0x45) begins the base64 of every version 1 header, and no header of this version begins with it.
  if (value.empty() || value[0] != 'E' || value.size() > kMaxEnvelopeHeaderSize * 2) return value;
  std::string decoded;
  if (!absl::Base64Unescape(ToAbsl(AsText(value)), &decoded)) return value;
  scratch.assign(decoded.begin(), decoded.end());
  return scratch;
}

void BuildAad(Bytes headerValue, std::string_view topic, std::optional<Bytes> recordKey, ByteBuffer& out) {
  const size_t keySize = recordKey.has_value() ? recordKey->size() : 0;
  out.resize(headerValue.size() + kMaxVarintSize + topic.size() + 1 + kMaxVarintSize + keySize);
  uint8_t* end = WriteBytes(headerValue, out.data());
  end = WriteSized(AsBytes(topic), end);
  *end++ = recordKey.has_value() ? 1 : 0;
  if (recordKey.has_value()) end = WriteSized(*recordKey, end);
  out.resize(static_cast<size_t>(end - out.data()));
}

}  // namespace kveil::crypto
