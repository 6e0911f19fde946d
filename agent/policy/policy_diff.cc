#include "policy/policy_diff.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/text.h"
#include "policy/entries.h"
#include "policy/policy_text.h"

namespace kveil::policy {
namespace {

using Selector = std::pair<SelectorKind, std::string>;

constexpr char kEveryRecord[] = "every record";

// What a workload may have: every record, or those that meet one of some conditions. Users are taken apart, so that one
// more in a list is one more, and not another list.
struct Records {
  struct Of {
    Where others;  // conditions, without `users`
    std::set<std::string> users;
  };
  bool isAll = false;
  std::map<std::string, Of> some;  // by the text of the other conditions, and whether there are users

  void Add(const Where& where) {
    Where others = where;
    others.users = nullptr;
    others.usersFile.clear();
    Of& of = some[StrCat(where.namesUsers() ? "users' " : "anybody's ", Conditions(others).Text())];
    of.others = std::move(others);
    if (where.namesUsers()) of.users.insert(where.users->begin(), where.users->end());
  }
};

std::string TextOf(const Records::Of& of, const std::set<std::string>& users) {
  Where where = of.others;
  if (!users.empty()) where.users = std::make_shared<const std::vector<std::string>>(users.begin(), users.end());
  return policy::TextOf(where);
}

std::vector<std::string> TextsOf(const Records& records) {
  std::vector<std::string> texts;
  for (const auto& [key, of] : records.some) texts.push_back(TextOf(of, of.users));
  return texts;
}

// What `more` has beyond `less`, neither of which has every record.
std::vector<std::string> Beyond(const Records& more, const Records& less) {
  std::vector<std::string> texts;
  for (const auto& [key, of] : more.some) {
    const auto found = less.some.find(key);
    if (found == less.some.end()) {
      texts.push_back(TextOf(of, of.users));
      continue;
    }
    std::set<std::string> users;
    std::set_difference(of.users.begin(), of.users.end(), found->second.users.begin(), found->second.users.end(),
                        std::inserter(users, users.end()));
    if (!users.empty()) texts.push_back(TextOf(of, users));
  }
  return texts;
}

// `rules`: nullptr where nothing is asked, so that everybody has every record.
Records RecordsOf(const std::vector<ReadRule>* rules, const ReadRule& workload) {
  Records records;
  records.isAll = rules == nullptr;
  if (records.isAll) return records;
  for (const ReadRule& rule : *rules) {
    if (rule.kind == ReadRule::Kind::kPurpose || !Covers(rule, workload)) continue;
    if (!rule.where.has_value()) records.isAll = true;
    if (rule.where.has_value()) records.Add(*rule.where);
  }
  return records;
}

std::optional<AccessChange> ChangeOf(const Records& before, const Records& after) {
  AccessChange change;
  if (before.isAll && after.isAll) return std::nullopt;
  if (before.isAll) {
    change.loses = {kEveryRecord};
    change.keeps = TextsOf(after);
  } else if (after.isAll) {
    change.gains = {kEveryRecord};
    change.keeps = TextsOf(before);
  } else {
    change.gains = Beyond(after, before);
    change.loses = Beyond(before, after);
  }
  if (change.gains.empty() && change.loses.empty()) return std::nullopt;
  return change;
}

std::string NameOf(const Selector& selector) {
  switch (selector.first) {
    case SelectorKind::kName:
      return StrCat("name ", selector.second);
    case SelectorKind::kPrefix:
      return StrCat("prefix ", selector.second);
    case SelectorKind::kPattern:
      return StrCat("pattern ", selector.second);
    case SelectorKind::kUnselected:
      break;
  }
  return "topics that no entry selects";
}

// The entry that counts for what the selector selects; nullptr: it is not protected.
const TopicPolicy* EntryFor(const Policy& policy, const Selector& selector) {
  const TopicPolicy* best = nullptr;
  for (const TopicPolicy& topic : policy.topics()) {
    if (topic.kind == selector.first && topic.selector == selector.second) return &topic;
    const bool isPrefix = topic.kind == SelectorKind::kPrefix && selector.first == SelectorKind::kPrefix &&
                          selector.second.starts_with(topic.selector);
    const bool isBetter =
        best == nullptr || best->kind != SelectorKind::kPrefix || topic.selector.size() > best->selector.size();
    if (isPrefix && isBetter) best = &topic;
    if (topic.kind == SelectorKind::kUnselected && best == nullptr) best = &topic;
  }
  return selector.first == SelectorKind::kName ? policy.Find(selector.second) : best;
}

std::string SealText(const TopicPolicy& topic) {
  if (!topic.seal.has_value()) return "";
  const std::string under = topic.seal->kek.has_value() ? StrCat(" under the KEK ", topic.seal->kek->Text()) : "";
  switch (topic.seal->scope) {
    case SealScope::kCluster:
      return "the cluster's key" + under;
    case SealScope::kTopic:
      return "the topic's key" + under;
    case SealScope::kUser:
      break;
  }
  return StrCat("the user's key in the keyspace ", topic.seal->keyspace, under);
}

std::string SealChange(const TopicPolicy& before, const TopicPolicy& after) {
  const std::string old = SealText(before);
  const std::string now = SealText(after);
  if (old == now) return "";
  if (old.empty()) return StrCat("is sealed with ", now);
  if (now.empty()) return "is not sealed any more: its records go to the broker in clear text";
  return StrCat("is sealed with ", now, ", no longer with ", old);
}

std::string CompressText(CompressValues compress) {
  switch (compress) {
    case CompressValues::kAlways:
      return "always compressed before they are sealed";
    case CompressValues::kNever:
      return "not compressed before they are sealed";
    case CompressValues::kAuto:
      break;
  }
  return "compressed before they are sealed where that pays";
}

// Beside whose keys there are, which SealChange has.
void CompareSealing(const std::string& name, const SealRule& before, const SealRule& after,
                    std::vector<TopicChange>& changes) {
  const bool haveUsers = before.scope == SealScope::kUser && after.scope == SealScope::kUser;
  if (haveUsers && TextOf(before.user) != TextOf(after.user)) {
    changes.push_back({name, StrCat("whose a record is: ", TextOf(after.user), "; no longer: ", TextOf(before.user))});
  }
  if (before.compress != after.compress) {
    changes.push_back({name, StrCat("values of compressed batches are ", CompressText(after.compress))});
  }
}

void CompareTreatment(const std::string& name, const TopicPolicy* before, const TopicPolicy* after,
                      std::vector<TopicChange>& changes) {
  if (before == nullptr && after == nullptr) return;
  if (after == nullptr) {
    changes.push_back(
        {name, "is not protected any more: its records pass in clear text, and every workload reads them"});
    return;
  }
  if (before == nullptr) {
    changes.push_back({name, "is protected"});
    return;
  }
  if (std::string what = SealChange(*before, *after); !what.empty()) changes.push_back({name, std::move(what)});
  if (before->seal.has_value() && after->seal.has_value()) CompareSealing(name, *before->seal, *after->seal, changes);
  if (before->origin != after->origin) {
    changes.push_back({name, after->origin.empty() ? StrCat("mirrors the topic ", before->origin, " no longer")
                                                   : StrCat("mirrors the topic ", after->origin)});
  }
  if (before->onDenied != after->onDenied || before->deniedMask != after->deniedMask) {
    changes.push_back({name, StrCat("records that rules deny are ", TextOf(after->onDenied, after->deniedMask))});
  }
  if (before->onErased != after->onErased || before->erasedMask != after->erasedMask) {
    changes.push_back({name, StrCat("records of erased users are ", TextOf(after->onErased, after->erasedMask))});
  }
  const bool readmitted = before->seal.has_value() && before->seal->readmits;
  const bool readmits = after->seal.has_value() && after->seal->readmits;
  if (readmitted != readmits) {
    changes.push_back({name, readmits ? "new records of erased users are sealed under new keys, which readers get"
                                      : "new records of erased users stay unreadable until the users are readmitted"});
  }
  if (before->auditsUsers != after->auditsUsers) {
    changes.push_back({name, after->auditsUsers ? "the audit trail counts its records by user"
                                                : "the audit trail does not count its records by user any more"});
  }
  if (before->plaintext != after->plaintext) {
    const bool passes = after->plaintext == PlaintextRule::kPass;
    changes.push_back({name, passes ? "records without an envelope are passed to readers"
                                    : "records without an envelope are left out"});
  }
}

void ComparePurposes(const Policy& before, const Policy& after, std::vector<TopicChange>& changes) {
  const auto compare = [&](const Policy& one, const Policy& other, std::string_view what) {
    for (const std::string& purpose : one.purposes()) {
      const auto others = other.purposes();
      if (!std::binary_search(others.begin(), others.end(), purpose))
        changes.push_back({"purpose " + purpose, std::string(what)});
    }
  };
  compare(after, before, "users may consent to it");
  compare(before, after, "users may not consent to it any more");
}

// Those of `policy` that `other` has, too, in the order in which they are tried.
std::vector<std::string> CommonPatterns(const Policy& policy, const Policy& other) {
  std::set<std::string> others;
  for (const TopicPolicy& topic : other.topics()) {
    if (topic.kind == SelectorKind::kPattern) others.insert(topic.selector);
  }
  std::vector<std::string> common;
  for (const TopicPolicy& topic : policy.topics()) {
    if (topic.kind == SelectorKind::kPattern && others.contains(topic.selector)) common.push_back(topic.selector);
  }
  return common;
}

using Rules = const std::vector<ReadRule>*;

// nullptr: nobody is asked.
Rules RulesOf(const TopicPolicy* topic, Access access) {
  if (topic == nullptr) return nullptr;
  if (access == Access::kRead) return &topic->read;
  return topic->write.has_value() ? &*topic->write : nullptr;
}

// Each workload that one of them names, once, and every other one.
void CompareAccess(const std::string& name, Rules before, Rules after, Access access,
                   std::vector<AccessChange>& changes) {
  std::map<std::string, ReadRule> workloads;
  for (const Rules rules : {before, after}) {
    if (rules == nullptr) continue;
    for (const ReadRule& rule : *rules) {
      if (rule.kind == ReadRule::Kind::kPurpose) continue;
      if (rule.kind != ReadRule::Kind::kAny || !rule.claimed.empty()) workloads.try_emplace(policy::TextOf(rule), rule);
    }
  }
  std::vector<std::pair<std::string, ReadRule>> all(workloads.begin(), workloads.end());
  all.emplace_back(workloads.empty() ? "every workload" : "every other workload", ReadRule());
  for (const auto& [text, workload] : all) {
    std::optional<AccessChange> change = ChangeOf(RecordsOf(before, workload), RecordsOf(after, workload));
    if (!change.has_value()) continue;
    change->topic = name;
    change->workload = text;
    change->access = access;
    changes.push_back(*std::move(change));
  }
}

std::string Listed(const std::vector<std::string>& records) {
  std::string text;
  for (const std::string& record : records) StrAppend(&text, text.empty() ? "" : "; ", record);
  return text;
}

}  // namespace

PolicyDiff Compare(const Policy& before, const Policy& after) {
  PolicyDiff diff;
  std::set<Selector> selectors;
  for (const Policy* policy : {&before, &after}) {
    for (const TopicPolicy& topic : policy->topics()) selectors.emplace(topic.kind, topic.selector);
  }
  for (const Selector& selector : selectors) {
    const TopicPolicy* const old = EntryFor(before, selector);
    const TopicPolicy* const now = EntryFor(after, selector);
    const std::string name = NameOf(selector);
    CompareTreatment(name, old, now, diff.topics);
    CompareAccess(name, RulesOf(old, Access::kRead), RulesOf(now, Access::kRead), Access::kRead, diff.accesses);
    CompareAccess(name, RulesOf(old, Access::kWrite), RulesOf(now, Access::kWrite), Access::kWrite, diff.accesses);
  }
  ComparePurposes(before, after, diff.topics);
  if (CommonPatterns(before, after) != CommonPatterns(after, before)) {
    diff.topics.push_back({"patterns", "are tried in another order: of several that a topic fits, the first counts"});
  }
  const bool refused = before.unselected() == Unselected::kRefuse;
  if (refused != (after.unselected() == Unselected::kRefuse)) {
    diff.topics.push_back(
        {NameOf({SelectorKind::kUnselected, ""}), refused ? "may be written to" : "may not be written to any more"});
  }
  return diff;
}

std::string TextOf(const AccessChange& change) {
  std::string text = StrCat(change.topic, ": ", change.workload);
  const std::string_view of = change.access == Access::kWrite ? "writing " : "";
  if (!change.gains.empty()) StrAppend(&text, " gains ", of, Listed(change.gains));
  if (!change.loses.empty()) {
    StrAppend(&text, change.gains.empty() ? "" : ", and", " loses ", of, Listed(change.loses));
  }
  if (change.keeps.empty()) return text;
  return StrCat(text, change.loses.empty() ? ", not only " : " but ", Listed(change.keeps));
}

std::string TextOf(const TopicChange& change) { return StrCat(change.topic, ": ", change.what); }

}  // namespace kveil::policy
