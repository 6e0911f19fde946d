// A JSON pointer (RFC 6901), parsed once.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/member_name.h"

namespace kveil::formats {

// The name of an object's member or, if the value is a list, an index.
struct JsonStep {
  MemberName name;
  std::optional<size_t> index;
};

class JsonPointer {
 public:
  // nullopt: not a pointer, longer than kLongest bytes, without a step (it would mean the whole document), or with a
  // quote, backslash or control character.
  static std::optional<JsonPointer> Parse(std::string_view text);

  static constexpr size_t kLongest = 1000;

  const std::string& text() const { return text_; }
  const std::vector<JsonStep>& steps() const { return steps_; }  // at least one

 private:
  JsonPointer() = default;

  std::string text_;
  std::vector<JsonStep> steps_;
};

}  // namespace kveil::formats
