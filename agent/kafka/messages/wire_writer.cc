// The primitive types of the protocol, written.
#include "kafka/messages/wire_writer.h"

namespace kveil::kafka {

void WireWriter::WriteUnknownBelow(uint64_t tag, const UnknownTaggedFields& unknown, size_t& next) {
  for (; next < unknown.size() && unknown[next].tag < tag; ++next) {
    out_.UnsignedVarint(unknown[next].tag);
    out_.UnsignedVarint(unknown[next].data.size());
    out_.Append(unknown[next].data);
  }
}

void WireWriter::WriteLength(size_t length, size_t width) {
  if (flexible_) {
    out_.UnsignedVarint(length + 1);
  } else if (width == sizeof(int16_t)) {
    out_.Int(static_cast<int16_t>(length));
  } else {
    out_.Int(static_cast<int32_t>(length));
  }
}

void WireWriter::WriteNull(size_t width, bool nullable) {
  // Adding one, as flexible versions do, makes it the 0 that stands for null there.
  WriteLength(nullable ? ~size_t{0} : 0, width);
}

void WireWriter::Value(const bool& value, bool) { out_.Int(static_cast<uint8_t>(value ? 1 : 0)); }

void WireWriter::Value(const TopicId& value, bool) { out_.Copy(Bytes(value.bytes)); }

void WireWriter::Value(const std::string_view& value, bool) {
  WriteLength(value.size(), sizeof(int16_t));
  out_.Copy(value);  // unlike records, texts are often made for the message, and gone before it is sent
}

void WireWriter::Value(const std::optional<std::string_view>& value, bool nullable) {
  value.has_value() ? Value(*value, false) : WriteNull(sizeof(int16_t), nullable);
}

void WireWriter::Value(const Bytes& value, bool) {
  WriteLength(value.size(), sizeof(int32_t));
  out_.Append(value);
}

void WireWriter::Value(const std::optional<Bytes>& value, bool nullable) {
  value.has_value() ? Value(*value, false) : WriteNull(sizeof(int32_t), nullable);
}

}  // namespace kveil::kafka
