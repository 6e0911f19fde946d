#include "policy/policy_advice.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "identity/cgroup_path.h"

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

std::string NameOf(const TopicPolicy& topic) {
  return topic.kind == SelectorKind::kUnselected ? "unselected" : StrCat("\"", topic.selector, "\"");
}

// Whether every workload that fits `inner` fits `outer`, as far as the selectors show it.
bool Covers(const ReadRule& outer, const ReadRule& inner) {
  using Kind = ReadRule::Kind;
  if (outer.uid.has_value() && outer.uid != inner.uid) return false;
  if (outer.kind == Kind::kAny) return true;
  if (outer.kind == Kind::kCgroup && inner.kind == Kind::kCgroup) return identity::IsBelow(inner.text, outer.text);
  if (outer.kind == Kind::kNamespace && inner.kind == Kind::kServiceAccount) {
    return outer.labels.empty() && inner.text.starts_with(outer.text + "/");
  }
  return outer.kind == inner.kind && outer.text == inner.text &&
         std::includes(inner.labels.begin(), inner.labels.end(), outer.labels.begin(), outer.labels.end());
}

bool IsNeverMet(const Where& where) {
  return where.olderThan.has_value() && where.newerThan.has_value() && *where.newerThan <= *where.olderThan;
}

// Entries of `read` that change nothing, or lose records.
void AdviseOnEntries(const TopicPolicy& topic, std::vector<std::string>& advice) {
  const std::vector<ReadRule>& read = topic.read;
  std::vector<size_t> unconditional;
  for (size_t i = 0; i < read.size(); ++i) {
    if (!read[i].where.has_value()) unconditional.push_back(i);
  }
  for (size_t i = 0; i < read.size(); ++i) {
    if (!read[i].where.has_value()) continue;
    const std::string entry = StrCat(topic.file, ": topic ", NameOf(topic), ": entry ", i + 1, " of \"read\" ");
    if (IsNeverMet(*read[i].where)) {
      advice.push_back(StrCat(entry,
                              "lets nothing be read: no record is as old as \"olderThan\" and still younger than "
                              "\"newerThan\""));
    } else if (read[i].where->olderThan.has_value()) {
      advice.push_back(StrCat(entry,
                              "has \"olderThan\": a consumer that keeps up fetches records while they are new, does "
                              "not get them, and does not get them later either"));
    }
    const auto covering = std::find_if(unconditional.begin(), unconditional.end(),
                                       [&](size_t outer) { return Covers(read[outer], read[i]); });
    if (covering != unconditional.end()) {
      advice.push_back(
          StrCat(entry, "changes nothing: entry ", *covering + 1, " lets the same workload read every record"));
    }
  }
}

}  // namespace

std::vector<std::string> AdviceOn(const Policy& policy) {
  std::vector<std::string> advice;
  for (const TopicPolicy& topic : policy.topics()) {
    if (topic.rules != nullptr) AdviseOnEntries(topic, advice);
    if (topic.kind != SelectorKind::kPattern || !LooksLikeGlob(topic.selector)) continue;
    advice.push_back(StrCat(topic.file, ": the pattern \"", topic.selector,
                            "\" is a regular expression, in which \"*\" repeats the character before it; \"",
                            AsExpression(topic.selector), "\", or \"prefix\", may be meant"));
  }
  return advice;
}

}  // namespace kveil::policy
