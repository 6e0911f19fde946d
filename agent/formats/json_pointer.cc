#include "formats/json_pointer.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "base/text.h"

namespace kveil::formats {
namespace {

// One token with "~1" and "~0" replaced. nullopt: an escape that there is not.
std::optional<std::string> Unescaped(std::string_view token) {
  std::string text;
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] != '~') {
      text.push_back(token[i]);
      continue;
    }
    ++i;
    if (i == token.size() || (token[i] != '0' && token[i] != '1')) return std::nullopt;
    text.push_back(token[i] == '0' ? '~' : '/');
  }
  return text;
}

// RFC 6901 section 4: digits without leading zeros.
std::optional<size_t> IndexOf(std::string_view token) {
  const bool isDigits = !token.empty() && std::all_of(token.begin(), token.end(), absl::ascii_isdigit);
  if (!isDigits || (token.size() > 1 && token[0] == '0')) return std::nullopt;
  uint64_t index = 0;
  if (!absl::SimpleAtoi(ToAbsl(token), &index)) return std::nullopt;
  return index;
}

}  // namespace

std::optional<JsonPointer> JsonPointer::Parse(std::string_view text) {
  const auto isExcluded = [](char c) { return absl::ascii_iscntrl(c) || c == '"' || c == '\\'; };
  if (text.size() > kLongest || text.empty() || text[0] != '/') return std::nullopt;
  if (std::any_of(text.begin(), text.end(), isExcluded)) return std::nullopt;
  JsonPointer pointer;
  pointer.text_ = std::string(text);
  while (!text.empty()) {
    text.remove_prefix(1);
    const std::string_view token = text.substr(0, text.find('/'));
    std::optional<std::string> name = Unescaped(token);
    if (!name.has_value()) return std::nullopt;
    pointer.steps_.push_back({MemberName(*std::move(name)), IndexOf(token)});
    text.remove_prefix(token.size());
  }
  return pointer;
}

}  // namespace kveil::formats
