#include "policy/policy_advice.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/types/span.h"
#include "base/text.h"
#include "identity/cgroup_path.h"
#include "policy/policy_text.h"

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

// What is listed of one kind, in order. None: anything will do.
using Listed = std::vector<std::string>;

bool IsWithin(const Listed& inner, const Listed& outer) {
  return outer.empty() || (!inner.empty() && std::includes(outer.begin(), outer.end(), inner.begin(), inner.end()));
}

Listed InOrder(Listed texts) {
  std::sort(texts.begin(), texts.end());
  return texts;
}

// The conditions of an entry, such that those of two can be compared.
struct Conditions {
  explicit Conditions(const Where& where) : users(InOrder(where.users)), consents(InOrder(where.consents)) {
    for (const AttributeTest& test : where.attributes) {
      attributes.push_back({test.name, test.label, InOrder(test.texts)});
    }
    for (const HeaderTest& header : where.headers) tests.push_back(TextOf(header));
    for (const ValueTest& value : where.values) tests.push_back(TextOf(value));
    std::sort(tests.begin(), tests.end());
    newerThan = where.newerThan.value_or(std::chrono::milliseconds::max());
    olderThan = where.olderThan.value_or(std::chrono::milliseconds::min());
  }

  // Whether every record that meets these meets the others, as far as that shows.
  bool AreWithin(const Conditions& others) const {
    return IsWithin(users, others.users) && IsWithin(consents, others.consents) &&
           std::includes(tests.begin(), tests.end(), others.tests.begin(), others.tests.end()) &&
           newerThan <= others.newerThan && olderThan >= others.olderThan &&
           std::all_of(others.attributes.begin(), others.attributes.end(), [&](const Attribute& outer) {
             return std::any_of(attributes.begin(), attributes.end(), [&](const Attribute& inner) {
               return inner.name == outer.name && inner.label == outer.label && IsWithin(inner.texts, outer.texts);
             });
           });
  }

  struct Attribute {
    std::string name;
    std::string label;
    Listed texts;
  };
  Listed users;
  Listed consents;
  std::vector<Attribute> attributes;
  Listed tests;  // of headers and values
  std::chrono::milliseconds newerThan;
  std::chrono::milliseconds olderThan;
};

// The entry that lets the same workload read all that entry `i` does. An entry without conditions is named first; of
// two that are alike, the first one counts.
std::optional<size_t> CoveringEntry(absl::Span<const ReadRule> read, absl::Span<const Conditions> conditions,
                                    size_t i) {
  const auto covers = [&](size_t outer) {
    return read[outer].position != read[i].position && Covers(read[outer], read[i]);
  };
  for (size_t outer = 0; outer < read.size(); ++outer) {
    if (!read[outer].where.has_value() && covers(outer)) return outer;
  }
  for (size_t outer = 0; outer < read.size(); ++outer) {
    if (!read[outer].where.has_value() || !covers(outer) || !conditions[i].AreWithin(conditions[outer])) continue;
    const bool areAlike = Covers(read[i], read[outer]) && conditions[outer].AreWithin(conditions[i]);
    if (!areAlike || outer < i) return outer;
  }
  return std::nullopt;
}

// Entries of `read` that change nothing, or lose records.
void AdviseOnEntries(const TopicPolicy& topic, std::vector<std::string>& advice) {
  const std::vector<ReadRule>& read = topic.read;
  std::vector<Conditions> conditions;
  for (const ReadRule& rule : read) conditions.emplace_back(rule.where.value_or(Where()));
  std::vector<bool> isAdvisedOn(read.size());  // by position: "purpose" makes several of one entry
  for (size_t i = 0; i < read.size(); ++i) {
    if (!read[i].where.has_value() || isAdvisedOn[read[i].position]) continue;
    isAdvisedOn[read[i].position] = true;
    const std::string entry =
        StrCat(topic.file, ": topic ", NameOf(topic), ": entry ", read[i].position + 1, " of \"read\" ");
    if (read[i].kind == ReadRule::Kind::kPurpose) {
      advice.push_back(StrCat(entry, "lets nobody read: no file gives a workload a purpose (\"workloads\")"));
      continue;
    }
    if (IsNeverMet(*read[i].where)) {
      advice.push_back(StrCat(entry,
                              "lets nothing be read: no record is as old as \"olderThan\" and still younger than "
                              "\"newerThan\""));
    } else if (read[i].where->olderThan.has_value()) {
      advice.push_back(StrCat(entry,
                              "has \"olderThan\": a consumer that keeps up fetches records while they are new, does "
                              "not get them, and does not get them later either"));
    }
    // Of an entry for workloads with a purpose, some may be covered and others not.
    const bool isOneOfSeveral = std::any_of(read.begin(), read.end(), [&](const ReadRule& other) {
      return &other != &read[i] && other.position == read[i].position;
    });
    const std::optional<size_t> covering = isOneOfSeveral ? std::nullopt : CoveringEntry(read, conditions, i);
    if (covering.has_value()) {
      advice.push_back(StrCat(entry, "changes nothing: entry ", read[*covering].position + 1,
                              " lets the same workload read ",
                              read[*covering].where.has_value() ? "these records and perhaps others" : "every record"));
    }
  }
}

// A purpose that no entry asks for changes nothing; it may be spelled in two ways.
void AdviseOnPurposes(const Policy& policy, std::vector<std::string>& advice) {
  std::set<std::string> asked;
  for (const TopicPolicy& topic : policy.topics()) {
    for (const ReadRule& rule : topic.read) {
      if (rule.where.has_value()) asked.insert(rule.where->consents.begin(), rule.where->consents.end());
    }
  }
  for (const std::string& purpose : policy.purposes()) {
    if (!asked.contains(purpose))
      advice.push_back(StrCat("no entry asks for a consent for the purpose \"", purpose, "\""));
  }
}

}  // namespace

std::vector<std::string> AdviceOn(const Policy& policy) {
  std::vector<std::string> advice;
  AdviseOnPurposes(policy, advice);
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
