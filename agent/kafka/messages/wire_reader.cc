// The primitive types of the protocol, read.
#include "kafka/messages/wire_reader.h"

#include <algorithm>

#include "base/text.h"
#include "kafka/varint.h"

namespace kveil::kafka {

void WireReader::Fail(const char* problem) {
  if (!failed()) problem_ = problem;
}

absl::Status WireReader::Finish(std::string_view message) {
  if (!failed() && cursor_ != end_) {
    field_ = "end";
    Fail("bytes are left over after the last field");
  }
  if (!failed()) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat(message, " version ", version_, ", ", field_, ": ", problem_));
}

uint32_t WireReader::ReadUnsigned() {
  uint32_t value = 0;
  if (failed()) return 0;
  if (!ReadUnsignedVarint(cursor_, end_, value)) Fail("the message ends within a varint, or it is longer than 32 bits");
  return value;
}

Bytes WireReader::Take(size_t size) {
  if (failed()) return {};
  if (size > left()) {
    Fail("the message ends before this field does");
    return {};
  }
  const Bytes bytes(cursor_, size);
  cursor_ += size;
  return bytes;
}

int64_t WireReader::ReadLength(size_t width) {
  if (flexible_) return static_cast<int64_t>(ReadUnsigned()) - 1;
  const Bytes bytes = Take(width);
  if (failed()) return 0;
  return width == sizeof(int16_t) ? LoadBigEndian<int16_t>(bytes.data()) : LoadBigEndian<int32_t>(bytes.data());
}

std::optional<size_t> WireReader::ReadNullableLength(size_t width, bool nullable) {
  const int64_t length = ReadLength(width);
  if (failed()) return std::nullopt;
  if (length >= 0) return static_cast<size_t>(length);
  if (length < -1) Fail("negative length");
  if (!nullable) Fail("null where none may be");
  return std::nullopt;
}

void WireReader::Value(bool& value, bool) {
  const Bytes byte = Take(1);
  if (!failed()) value = byte[0] != 0;
}

void WireReader::Value(TopicId& value, bool) {
  const Bytes bytes = Take(value.bytes.size());
  if (!failed()) std::copy(bytes.begin(), bytes.end(), value.bytes.begin());
}

void WireReader::Value(std::string_view& value, bool) {
  if (const std::optional<size_t> length = ReadNullableLength(sizeof(int16_t), false)) value = AsText(Take(*length));
}

void WireReader::Value(std::optional<std::string_view>& value, bool nullable) {
  const std::optional<size_t> length = ReadNullableLength(sizeof(int16_t), nullable);
  value.reset();
  if (length.has_value()) value = AsText(Take(*length));
}

void WireReader::Value(Bytes& value, bool) {
  if (const std::optional<size_t> length = ReadNullableLength(sizeof(int32_t), false)) value = Take(*length);
}

void WireReader::Value(std::optional<Bytes>& value, bool nullable) {
  const std::optional<size_t> length = ReadNullableLength(sizeof(int32_t), nullable);
  value.reset();
  if (length.has_value()) value = Take(*length);
}

}  // namespace kveil::kafka
