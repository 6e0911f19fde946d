#include "policy/policy_advice.h"

#include "absl/strings/ascii.h"
#include "base/text.h"

namespace kveil::policy {
namespace {

// A letter, digit, dash or underscore that is repeated, as in "orders-*", which selects "orders", "orders-", "orders--"
// and nothing else: in a shell's pattern it would be any end.
bool LooksLikeGlob(std::string_view pattern) {
  for (size_t i = 1; i < pattern.size(); ++i) {
    const auto before = static_cast<unsigned char>(pattern[i - 1]);
    const bool isLiteral = absl::ascii_isalnum(before) || before == '-' || before == '_';
    const bool isEscaped = i > 1 && pattern[i - 2] == '\\';
    if (pattern[i] == '*' && isLiteral && !isEscaped) return true;
  }
  return false;
}

// With ".*" where a glob has "*".
std::string AsExpression(std::string_view glob) {
  std::string text;
  for (const char c : glob) text += c == '*' ? std::string(".*") : std::string(1, c);
  return text;
}

}  // namespace

std::vector<std::string> AdviceOn(const Policy& policy) {
  std::vector<std::string> advice;
  for (const TopicPolicy& topic : policy.topics()) {
    if (topic.kind != SelectorKind::kPattern || !LooksLikeGlob(topic.selector)) continue;
    advice.push_back(StrCat(topic.file, ": the pattern \"", topic.selector,
                            "\" is a regular expression, in which \"*\" repeats the character before it; \"",
                            AsExpression(topic.selector), "\", or \"prefix\", may be meant"));
  }
  return advice;
}

}  // namespace kveil::policy
