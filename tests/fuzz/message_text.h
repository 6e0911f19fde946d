// The visitor that writes down all that a message holds, so that two messages can be compared. Unlike the wire it keeps
// null apart from empty, whatever the version, and does not go by the code under test.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/text.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"

namespace kveil::fuzz {

class MessageText {
 public:
  static constexpr bool kFills = false;

  explicit MessageText(int16_t version) : version_(version) {}

  template <class T>
  void Field(std::string_view, const T& member, kafka::FieldVersions versions = {}) {
    if (versions.Contain(version_)) Value(member);
  }
  template <class... T>
  void Tags(const kafka::UnknownTaggedFields& unknown, const kafka::TaggedField<T>&... known) {
    (Field(known.name, known.value, known.versions), ...);
    for (const kafka::UnknownTaggedField& field : unknown) {
      Value(field.tag);
      Value(AsText(field.data));
    }
    text_.push_back('}');
  }

  const std::string& text() const { return text_; }

 private:
  template <class Number>
  std::enable_if_t<std::is_integral_v<Number>> Value(const Number& value) {
    text_.append(std::to_string(value)).push_back(' ');
  }
  template <class Enum>
  std::enable_if_t<std::is_enum_v<Enum>> Value(const Enum& value) {
    Value(static_cast<std::underlying_type_t<Enum>>(value));
  }
  void Value(const std::string_view& value) { text_.append(std::to_string(value.size())).append(":").append(value); }
  void Value(const Bytes& value) { Value(AsText(value)); }
  void Value(const kafka::TopicId& value) { Value(Bytes(value.bytes)); }
  template <class T>
  void Value(const std::optional<T>& value) {
    if (value.has_value()) {
      Value(*value);
    } else {
      text_.append("null ");
    }
  }
  template <class T>
  void Value(const std::vector<T>& value) {
    Value(value.size());
    for (const T& element : value) Value(element);
  }
  template <class T>
  std::enable_if_t<std::is_class_v<T>> Value(const T& value) {
    Describe(*this, value);
  }

  std::string text_;
  int16_t version_;
};

}  // namespace kveil::fuzz
