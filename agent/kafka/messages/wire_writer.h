// The visitor that writes a described message. Used by messages/codec.h only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/bytes.h"
#include "kafka/frame_writer.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

class WireWriter {
 public:
  static constexpr bool kFills = false;

  WireWriter(FrameWriter& out, int16_t version, bool flexible) : out_(out), version_(version), flexible_(flexible) {}

  template <class T>
  void Field(std::string_view, const T& member, FieldVersions versions = {}) {
    if (versions.Contain(version_)) Value(member, versions.AllowNull(version_));
  }

  // Known and unknown fields merged by their number, as the protocol wants them in ascending order.
  template <class... T>
  void Tags(const UnknownTaggedFields& unknown, const TaggedField<T>&... known) {
    if (!flexible_) return;
    out_.UnsignedVarint(unknown.size() + (size_t{0} + ... + size_t{IsWritten(known)}));
    size_t next = 0;
    (WriteKnown(known, unknown, next), ...);
    WriteUnknownBelow(kNoTag, unknown, next);
  }

 private:
  static constexpr uint64_t kNoTag = uint64_t{1} << 32;  // above every tag

  template <class T>
  bool IsWritten(const TaggedField<T>& known) const {
    return known.versions.Contain(version_) && !(known.value == known.absent);
  }
  template <class T>
  void WriteKnown(const TaggedField<T>& known, const UnknownTaggedFields& unknown, size_t& next) {
    if (!IsWritten(known)) return;
    WriteUnknownBelow(known.tag, unknown, next);
    FrameWriter content;
    WireWriter(content, version_, flexible_).Value(known.value, known.versions.AllowNull(version_));
    out_.UnsignedVarint(known.tag);
    out_.UnsignedVarint(content.size());
    out_.Append(content);
  }
  // Writes the unknown fields from `next` on whose tags are below `tag`.
  void WriteUnknownBelow(uint64_t tag, const UnknownTaggedFields& unknown, size_t& next);

  // A length or count as the version has it (`width` is that of the inflexible form).
  void WriteLength(size_t length, size_t width);
  // Null, or empty where null is not allowed.
  void WriteNull(size_t width, bool nullable);

  template <class Integer>
  std::enable_if_t<std::is_integral_v<Integer>> Value(const Integer& value, bool) {
    out_.Int(value);
  }
  template <class Enum>
  std::enable_if_t<std::is_enum_v<Enum>> Value(const Enum& value, bool) {
    out_.Int(static_cast<std::underlying_type_t<Enum>>(value));
  }
  void Value(const bool& value, bool);
  void Value(const TopicId& value, bool);
  void Value(const std::string_view& value, bool);
  void Value(const std::optional<std::string_view>& value, bool nullable);
  void Value(const Bytes& value, bool);
  void Value(const std::optional<Bytes>& value, bool nullable);
  template <class T>
  void Value(const std::vector<T>& value, bool) {
    WriteLength(value.size(), sizeof(int32_t));
    for (const T& element : value) Value(element, false);
  }
  template <class T>
  void Value(const std::optional<std::vector<T>>& value, bool nullable) {
    value.has_value() ? Value(*value, false) : WriteNull(sizeof(int32_t), nullable);
  }
  template <class T>
  std::enable_if_t<std::is_class_v<T>> Value(const T& value, bool) {
    Describe(*this, value);
  }
  // A struct that may be null; where the version allows no null, an empty one.
  template <class T>
  std::enable_if_t<std::is_class_v<T>> Value(const std::optional<T>& value, bool nullable) {
    const bool isPresent = value.has_value() || !nullable;
    out_.Int(static_cast<int8_t>(isPresent ? 1 : -1));
    if (isPresent) Describe(*this, value.has_value() ? *value : T());
  }

  FrameWriter& out_;
  int16_t version_;
  bool flexible_;
};

}  // namespace kveil::kafka
