#include "policy/where.h"

#include <re2/re2.h>

#include <algorithm>

#include "absl/strings/charconv.h"

namespace kveil::policy {

bool Matches(const re2::RE2& pattern, std::string_view text) {
  return text.size() <= kLongestMatched && re2::RE2::FullMatch(re2::StringPiece(text.data(), text.size()), pattern);
}

bool Meets(const Test& test, std::string_view text) {
  if (text.size() > kLongestTested) return false;
  if (test.pattern != nullptr) return Matches(*test.pattern, text);
  return std::find(test.texts.begin(), test.texts.end(), text) != test.texts.end();
}

bool Meets(const Test& test, double number) {
  if (test.range.has_value()) return number >= test.range->least && number <= test.range->most;
  return std::find(test.numbers.begin(), test.numbers.end(), number) != test.numbers.end();
}

std::optional<double> NumberOf(std::string_view json) {
  double number = 0;
  const auto [end, error] = absl::from_chars(json.data(), json.data() + json.size(), number);
  if (error != std::errc() || end != json.data() + json.size()) return std::nullopt;
  return number == 0 ? 0 : number;  // -0 is 0
}

}  // namespace kveil::policy
