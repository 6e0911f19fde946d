// Reads the record header's value, and builds the additional data.
#include "crypto/envelope.h"

#include <string.h>

#include <string>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::crypto {
namespace {

constexpr size_t kMaxVarintSize = 10;
constexpr size_t kFixedSize = 1 + 1 + 16 + 12;
constexpr size_t kRoomForLongerKeys = 256;

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

// Takes a length of up to `maxSize` and that many bytes, at least one.
bool TakeSizedBytes(Bytes& rest, size_t maxSize, Bytes& bytes) {
  uint64_t size = 0;
  if (!TakeVarint(rest, maxSize, size) || size == 0 || size > rest.size()) return false;
  bytes = rest.first(size);
  rest.remove_prefix(size);
  return true;
}

absl::Status Bad(std::string_view what) { return absl::InvalidArgumentError(StrCat("envelope header: ", what)); }

uint8_t* WriteSized(Bytes bytes, uint8_t* out) { return CopyRun(internal::WriteVarint(bytes.size(), out), bytes); }

}  // namespace

uint8_t* internal::WriteInlineKey(Bytes kekReference, Bytes wrappedKey, uint8_t* out) {
  return WriteSized(wrappedKey, WriteSized(kekReference, out));
}

absl::StatusOr<EnvelopeHeader> ParseEnvelopeHeader(Bytes value) {
  EnvelopeHeader header;
  RETURN_IF_ERROR(ParseEnvelopeHeader(value, header));
  return header;
}

absl::Status ParseEnvelopeHeader(Bytes value, EnvelopeHeader& header) {
  if (value.size() < kFixedSize + 1) return Bad("cut short");
  if (value[0] >> 4 != kEnvelopeVersion) return Bad(StrCat("version ", value[0] >> 4, " is not known, only 1 is"));
  const auto suite = static_cast<Suite>(value[0] & 0x0f);
  if (suite != Suite::kBatchKey && suite != Suite::kPeriodKey) {
    return Bad(StrCat("suite ", value[0] & 0x0f, " is not known, only 1 and 2 (AES-256-GCM) are"));
  }
  if (value[1] & ~kKnownFlags) return Bad("it has flags that are not known");
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
  if (header.flags & kFlagUnderKek) {
    if (rest.size() < header.kekKeyId.bytes.size()) return Bad("cut short");
    memcpy(header.kekKeyId.bytes.data(), rest.data(), header.kekKeyId.bytes.size());
    rest.remove_prefix(header.kekKeyId.bytes.size());
  }
  if (header.flags & kFlagInlineKey) {
    if (!TakeSizedBytes(rest, kMaxKekReferenceSize, header.kekReference)) return Bad("the KEK reference is malformed");
    if (!TakeSizedBytes(rest, kMaxWrappedKeySize, header.wrappedKey)) return Bad("the wrapped key is malformed");
  }
  if (!rest.empty()) return Bad("bytes are left over");
  return absl::OkStatus();
}

Bytes internal::RestoreFromBase64(Bytes value, ByteBuffer& scratch) {
  if (value.size() > kMaxEnvelopeHeaderSize * 2) return value;
  std::string decoded;
  if (!absl::Base64Unescape(ToAbsl(AsText(value)), &decoded)) return value;
  scratch.assign(decoded.begin(), decoded.end());
  return scratch;
}

TopicAad::TopicAad(std::string_view topic) : memory_(kMaxEnvelopeHeaderSize + kMaxVarintSize + topic.size() + 1) {
  const uint8_t* const end = WriteSized(AsBytes(topic), memory_.data() + kMaxEnvelopeHeaderSize);
  topicEnd_ = static_cast<size_t>(end - memory_.data());
}

Bytes TopicAad::WithKey(size_t headerSize, Bytes key) {
  const size_t needed = topicEnd_ + 1 + kMaxVarintSize + key.size();
  if (needed > memory_.size()) {
    ByteBuffer larger(needed + kRoomForLongerKeys);
    memcpy(larger.data(), memory_.data(), topicEnd_);
    memory_.swap(larger);
  }
  uint8_t* end = memory_.data() + topicEnd_;
  *end++ = 1;
  end = WriteSized(key, end);
  return Between(memory_.data() + kMaxEnvelopeHeaderSize - headerSize, end);
}

}  // namespace kveil::crypto
