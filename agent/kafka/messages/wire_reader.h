// The visitor that fills a described message from bytes. Used by messages/codec.h only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "base/bytes.h"
#include "kafka/big_endian.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::kafka {

struct DecodeBounds {
  size_t elements;  // in all arrays and tag sections
  size_t memory;    // of these, in bytes
};

// After the first mistake it reads nothing more; Finish tells.
class WireReader {
 public:
  static constexpr bool kFills = true;

  WireReader(Bytes body, int16_t version, bool flexible, DecodeBounds bounds)
      : cursor_(body.data()),
        end_(body.data() + body.size()),
        version_(version),
        flexible_(flexible),
        bounds_(bounds) {}

  template <class T>
  void Field(std::string_view name, T& member, FieldVersions versions = {}) {
    if (failed() || !versions.Contain(version_)) return;
    field_ = name;
    Value(member, versions.AllowNull(version_));
  }

  template <class... T>
  void Tags(UnknownTaggedFields& unknown, TaggedField<T>... known) {
    if (failed() || !flexible_) return;
    field_ = "tagged fields";
    const uint32_t count = ReadUnsigned();
    for (uint32_t i = 0; i < count && !failed(); ++i) {
      const uint32_t tag = ReadUnsigned();
      const Bytes data = Take(ReadUnsigned());
      if (failed()) return;
      if (!(ReadKnown(tag, data, known) || ...)) AddElement(unknown) = {tag, data};
    }
  }

  // OK, or what was wrong with which field.
  absl::Status Finish(std::string_view message);

  // About what the elements take that were read.
  size_t memory() const { return memory_; }

 private:
  bool failed() const { return problem_ != nullptr; }
  size_t left() const { return static_cast<size_t>(end_ - cursor_); }
  void Fail(const char* problem);

  uint32_t ReadUnsigned();
  // That many bytes; empty after a mistake.
  Bytes Take(size_t size);
  // A length or count as the version has it, -1 for null (`width` is that of the inflexible form).
  int64_t ReadLength(size_t width);
  // The length of a string, bytes or array; std::nullopt for null, which is a mistake where it is not allowed.
  std::optional<size_t> ReadNullableLength(size_t width, bool nullable);

  template <class Integer>
  std::enable_if_t<std::is_integral_v<Integer>> Value(Integer& value, bool) {
    const Bytes bytes = Take(sizeof(value));
    if (!failed()) value = static_cast<Integer>(LoadBigEndian<Integer>(bytes.data()));
  }
  template <class Enum>
  std::enable_if_t<std::is_enum_v<Enum>> Value(Enum& value, bool) {
    std::underlying_type_t<Enum> number{};
    Value(number, false);
    value = static_cast<Enum>(number);
  }
  void Value(bool& value, bool);
  void Value(TopicId& value, bool);
  void Value(std::string_view& value, bool);
  void Value(std::optional<std::string_view>& value, bool nullable);
  void Value(Bytes& value, bool);
  void Value(std::optional<Bytes>& value, bool nullable);
  template <class T>
  void Value(std::vector<T>& value, bool) {
    if (const std::optional<size_t> count = ReadNullableLength(sizeof(int32_t), false)) ReadElements(*count, value);
  }
  template <class T>
  void Value(std::optional<std::vector<T>>& value, bool nullable) {
    const std::optional<size_t> count = ReadNullableLength(sizeof(int32_t), nullable);
    value.reset();
    if (count.has_value()) ReadElements(*count, value.emplace());
  }
  template <class T>
  std::enable_if_t<std::is_class_v<T>> Value(T& value, bool) {
    Describe(*this, value);
  }

  // A struct that may be null has a byte in front of it: 1, or negative for null.
  template <class T>
  std::enable_if_t<std::is_class_v<T>> Value(std::optional<T>& value, bool nullable) {
    int8_t presence = 0;
    Value(presence, false);
    value.reset();
    if (failed()) return;
    if (presence < 0 && !nullable) return Fail("null where none may be");
    // Of a T, not of nothing: clang 14 does not believe that a nested struct with defaults can be made of nothing.
    if (presence >= 0) Describe(*this, value.emplace(T()));
  }

  // An element of few bytes in the message may take a hundred here.
  template <class T>
  T& AddElement(std::vector<T>& elements) {
    memory_ += sizeof(T);
    if (++elements_ > bounds_.elements) Fail("more elements than any client or broker sends");
    if (memory_ > bounds_.memory) Fail("elements that take far more memory than the message has bytes");
    return elements.emplace_back();
  }

  template <class T>
  void ReadElements(size_t count, std::vector<T>& elements) {
    // Every element takes a byte at least. Memory for all of them is not taken on the word of a count, though.
    constexpr size_t kTrusted = 64;
    if (count > left()) return Fail("the count is larger than the bytes that are left");
    elements.clear();
    elements.reserve(count < kTrusted ? count : kTrusted);
    for (size_t i = 0; i < count && !failed(); ++i) Value(AddElement(elements), false);
  }

  template <class T>
  bool ReadKnown(uint32_t tag, Bytes data, TaggedField<T>& known) {
    if (tag != known.tag || !known.versions.Contain(version_)) return false;
    field_ = known.name;
    const auto outer = std::pair(cursor_, end_);
    cursor_ = data.data();
    end_ = data.data() + data.size();
    Value(known.value, known.versions.AllowNull(version_));
    if (!failed() && cursor_ != end_) Fail("bytes are left over in the tagged field");
    std::tie(cursor_, end_) = outer;
    return true;
  }

  const uint8_t* cursor_;
  const uint8_t* end_;
  int16_t version_;
  bool flexible_;
  DecodeBounds bounds_;
  size_t elements_ = 0;
  size_t memory_ = 0;
  std::string_view field_;
  const char* problem_ = nullptr;
};

}  // namespace kveil::kafka
