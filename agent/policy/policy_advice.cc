#include "policy/policy_advice.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/types/span.h"
#include "base/text.h"
#include "policy/entries.h"

namespace kveil::policy {
namespace {

// Pairs of entries, over all topics, that are compared: all of four topics with the most entries that one may have.
constexpr size_t kMostPairs = 4 * kMostReaders * kMostReaders;

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

// Why no record meets the conditions; empty: some may.
std::string WhyNeverMet(const Where& where) {
  if (where.olderThan.has_value() && where.newerThan.has_value() && *where.newerThan <= *where.olderThan) {
    return "no record is as old as \"olderThan\" and still younger than \"newerThan\"";
  }
  return "";
}

// The entry that lets the same workload read all that entry `i` does. An entry without conditions is named first; of
// two that are alike, the first one counts.
std::optional<size_t> CoveringEntry(absl::Span<const ReadRule> read, absl::Span<const Conditions> conditions,
                                    size_t i) {
  const auto covers = [&](size_t outer) {
    return read[outer].position != read[i].position && Covers(read[outer], read[i]);
  };
  const bool isAll = !read[i].where.has_value();
  for (size_t outer = 0; outer < read.size(); ++outer) {
    if (read[outer].where.has_value() || !covers(outer)) continue;
    if (!isAll || outer < i || !Covers(read[i], read[outer])) return outer;
  }
  if (isAll) return std::nullopt;
  for (size_t outer = 0; outer < read.size(); ++outer) {
    if (!read[outer].where.has_value() || !covers(outer) || !conditions[i].AreWithin(conditions[outer])) continue;
    const bool areAlike = Covers(read[i], read[outer]) && conditions[outer].AreWithin(conditions[i]);
    if (!areAlike || outer < i) return outer;
  }
  return std::nullopt;
}

// A client chooses its own id, so an entry that asks for nothing else lets in whoever wants in.
void AdviseOnClientIds(const TopicPolicy& topic, std::vector<std::string>& advice) {
  for (const Access access : {Access::kRead, Access::kWrite}) {
    if (access == Access::kWrite && !topic.write.has_value()) continue;
    std::optional<size_t> last;  // "purpose" makes several of one entry
    for (const ReadRule& rule : access == Access::kRead ? topic.read : *topic.write) {
      const bool asksMore =
          rule.kind != ReadRule::Kind::kAny || !rule.claimed.principal.empty() || !rule.claimed.certificate.empty();
      if (rule.claimed.clientId.empty() || asksMore || last == rule.position) continue;
      last = rule.position;
      advice.push_back(StrCat(topic.file, ": topic ", NameOf(topic), ": entry ", rule.position + 1, " of \"",
                              access == Access::kRead ? "read" : "write",
                              "\" asks for nothing but a client id, and every client chooses its own: this protects "
                              "from nobody"));
    }
  }
}

// Nothing vouches for a record's headers and times. Who gets sealed records can give them others, in a copy of the
// topic.
void AdviseOnSealed(const TopicPolicy& topic, std::vector<std::string>& advice) {
  if (topic.onDenied != OnHidden::kSealed) return;
  std::optional<size_t> last;  // "purpose" makes several of one entry
  for (const ReadRule& rule : topic.read) {
    if (!rule.where.has_value() || rule.where->asksUser() || !rule.where->values.empty()) continue;
    if (std::exchange(last, rule.position) == rule.position) continue;
    advice.push_back(StrCat(topic.file, ": topic ", NameOf(topic), ": entry ", rule.position + 1,
                            " of \"read\" goes by headers or times alone, and its readers get the others sealed "
                            "(\"onDenied\"): written to a copy of the topic with other headers and times, they would "
                            "meet such an entry there"));
  }
}

bool HasPattern(const ReadRule& rule) {
  if (!rule.where.has_value()) return false;
  const auto has = [](const auto& asked) { return asked.test.pattern != nullptr; };
  return std::any_of(rule.where->headers.begin(), rule.where->headers.end(), has) ||
         std::any_of(rule.where->values.begin(), rule.where->values.end(), has);
}

// What is written decides how long expressions take, and readers stop before a batch that takes them too long.
void AdviseOnPatterns(const TopicPolicy& topic, std::vector<std::string>& advice) {
  if (topic.write.has_value()) return;
  const auto entry = std::find_if(topic.read.begin(), topic.read.end(), HasPattern);
  if (entry == topic.read.end()) return;
  advice.push_back(
      StrCat(topic.file, ": topic ", NameOf(topic), ": entry ", entry->position + 1,
             " of \"read\" has \"matches\", and every workload may write: whoever writes a batch that takes "
             "such expressions too long stops its readers before it (\"write\" says who may)"));
}

// Entries of `read` or `write` that change nothing, or lose records. Takes the pairs that it compares from `pairsLeft`,
// and compares nothing where these do not suffice.
void AdviseOnEntries(const TopicPolicy& topic, Access access, std::optional<size_t>& pairsLeft,
                     std::vector<std::string>& advice) {
  const std::vector<ReadRule>& read = access == Access::kRead ? topic.read : *topic.write;
  const std::string_view name = access == Access::kRead ? "read" : "write";
  const std::string_view done = access == Access::kRead ? "read" : "written";
  std::vector<Conditions> conditions;
  for (const ReadRule& rule : read) conditions.emplace_back(rule.where.value_or(Where()));
  std::vector<bool> isAdvisedOn(read.size());  // by position: "purpose" makes several of one entry
  std::vector<size_t> made(read.size());       // of the entry at this position
  for (const ReadRule& rule : read) ++made[rule.position];
  const size_t pairs = read.size() * read.size();
  pairsLeft = pairsLeft.has_value() && *pairsLeft >= pairs ? std::optional<size_t>(*pairsLeft - pairs) : std::nullopt;
  for (size_t i = 0; i < read.size(); ++i) {
    if (isAdvisedOn[read[i].position]) continue;
    isAdvisedOn[read[i].position] = true;
    const std::string entry =
        StrCat(topic.file, ": topic ", NameOf(topic), ": entry ", read[i].position + 1, " of \"", name, "\" ");
    if (read[i].kind == ReadRule::Kind::kPurpose) {
      advice.push_back(StrCat(entry, "lets nobody ", name, ": no file gives a workload a purpose (\"workloads\")"));
      continue;
    }
    const Where where = read[i].where.value_or(Where());
    const std::string why = WhyNeverMet(where);
    if (!why.empty()) {
      advice.push_back(StrCat(entry, "lets nothing be ", done, ": ", why));
    } else if (where.olderThan.has_value()) {
      advice.push_back(StrCat(entry,
                              "has \"olderThan\": a consumer that keeps up fetches records while they are new, does "
                              "not get them, and does not get them later either"));
    }
    // Of an entry for workloads with a purpose, some may be covered and others not.
    const bool isCompared = made[read[i].position] == 1 && pairsLeft.has_value();
    const std::optional<size_t> covering = isCompared ? CoveringEntry(read, conditions, i) : std::nullopt;
    if (covering.has_value()) {
      advice.push_back(StrCat(entry, "changes nothing: entry ", read[*covering].position + 1,
                              " lets the same workload ", name, " ",
                              read[*covering].where.has_value() ? "these records and perhaps others" : "every record"));
    }
  }
}

// A purpose that no entry asks for changes nothing; it may be spelled in two ways.
void AdviseOnPurposes(const Policy& policy, std::vector<std::string>& advice) {
  std::set<std::string> asked;
  for (const TopicPolicy& topic : policy.topics()) {
    for (const std::vector<ReadRule>* rules : {&topic.read, topic.write.has_value() ? &*topic.write : nullptr}) {
      if (rules == nullptr) continue;
      for (const ReadRule& rule : *rules) {
        if (rule.where.has_value()) asked.insert(rule.where->consents.begin(), rule.where->consents.end());
      }
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
  std::optional<size_t> pairsLeft = kMostPairs;  // none: there were too many
  for (const TopicPolicy& topic : policy.topics()) {
    AdviseOnEntries(topic, Access::kRead, pairsLeft, advice);
    if (topic.write.has_value()) AdviseOnEntries(topic, Access::kWrite, pairsLeft, advice);
    AdviseOnClientIds(topic, advice);
    AdviseOnSealed(topic, advice);
    AdviseOnPatterns(topic, advice);
    if (topic.kind != SelectorKind::kPattern || !LooksLikeGlob(topic.selector)) continue;
    advice.push_back(StrCat(topic.file, ": the pattern \"", topic.selector,
                            "\" is a regular expression, in which \"*\" repeats the character before it; \"",
                            AsExpression(topic.selector), "\", or \"prefix\", may be meant"));
  }
  if (!pairsLeft.has_value()) {
    advice.push_back("there are too many entries to compare all of a topic with each other; some may change nothing");
  }
  return advice;
}

}  // namespace kveil::policy
