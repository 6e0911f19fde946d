// The compiled policy: which entry a topic has, and whether a workload fits it.
#include "policy/policy.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <functional>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/read_file.h"
#include "identity/cgroup_path.h"
#include "policy/entries.h"
#include "policy/name_memo.h"
#include "policy/policy_files.h"
#include "policy/policy_reader.h"
#include "policy/policy_text.h"
#include "policy/rules_reader.h"
#include "policy/totals.h"
#include "policy/where_reader.h"

namespace kveil::policy {
namespace {

using NameAndText = std::pair<std::string, std::string>;

std::string_view SelectorName(SelectorKind kind) {
  switch (kind) {
    case SelectorKind::kName:
      return "name";
    case SelectorKind::kPrefix:
      return "prefix";
    case SelectorKind::kPattern:
      return "pattern";
    case SelectorKind::kUnselected:
      break;
  }
  return "unselected";
}

}  // namespace

struct Policy::Compiled {
  struct Pattern {
    std::shared_ptr<const re2::RE2> expression;
    size_t topic;  // its place in `topics`
  };

  std::vector<TopicPolicy> topics;  // never changes once the pointers below are taken
  size_t files = 0;
  std::string digest;
  std::map<std::string, std::string> hashes;
  int64_t version = 0;
  absl::flat_hash_map<std::string_view, const TopicPolicy*> byName;
  absl::flat_hash_map<std::string_view, const TopicPolicy*> byPrefix;
  std::vector<size_t> prefixLengths;  // those that occur, longest first
  std::vector<Pattern> patterns;
  std::vector<std::string> purposes;  // in order, each once
  Unselected unselected = Unselected::kPass;
  const TopicPolicy* ofUnselected = nullptr;
  mutable NameMemo found;  // what was found by trying patterns

  const TopicPolicy* TryPatterns(std::string_view topic) const {
    for (const Pattern& pattern : patterns) {
      if (re2::RE2::FullMatch(re2::StringPiece(topic.data(), topic.size()), *pattern.expression)) {
        return &topics[pattern.topic];
      }
    }
    return ofUnselected;
  }

  void Index() {
    std::set<size_t, std::greater<>> lengths;
    for (const TopicPolicy& topic : topics) {
      switch (topic.kind) {
        case SelectorKind::kName:
          byName.emplace(topic.selector, &topic);
          break;
        case SelectorKind::kPrefix:
          byPrefix.emplace(topic.selector, &topic);
          lengths.insert(topic.selector.size());
          break;
        case SelectorKind::kPattern:
          break;
        case SelectorKind::kUnselected:
          ofUnselected = &topic;
          break;
      }
    }
    prefixLengths.assign(lengths.begin(), lengths.end());
  }
};

Policy::Policy(std::unique_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}
Policy::~Policy() = default;

// Reads files one after the other, and puts what they say together.
class Policy::Collector {
 public:
  Collector(Extent extent, const bundle::Manifest* manifest)
      : extent_(extent), manifest_(manifest), compiled_(std::make_unique<Compiled>()) {}

  // The files of a folder, or others.
  absl::Status Read(absl::Span<const std::string> paths) {
    ASSIGN_OR_RETURN(const std::vector<std::string> files, config::FilesOf(paths));
    for (const std::string& file : files) {
      if (manifest_ != nullptr) RETURN_IF_ERROR(manifest_->Lists(file));
      ASSIGN_OR_RETURN(const std::string text, config::ReadTextFile(file));
      RETURN_IF_ERROR(Add(file, text));
    }
    return absl::OkStatus();
  }

  absl::Status Add(const std::string& name, std::string_view text) {
    RETURN_IF_ERROR(files_.Add(name, text));
    RETURN_IF_ERROR(read_.AddFile(name, text.size()));
    ASSIGN_OR_RETURN(ReadFile file, ReadPolicyText(text, name, lists_));
    ++compiled_->files;
    if (file.unselected.has_value()) {
      const std::string place = StrCat(name, ": /unselected");
      if (!unselectedPlace_.empty()) {
        return absl::InvalidArgumentError(StrCat(place, ": \"unselected\" is in ", unselectedPlace_, " already"));
      }
      unselectedPlace_ = place;
      compiled_->unselected = *file.unselected;
    }
    for (ReadTopic& entry : file.topics) {
      const std::string selector = StrCat(SelectorName(entry.policy.kind), " \"", entry.policy.selector, "\"");
      const std::string place = StrCat(name, ": ", entry.pointer);
      const auto [first, fresh] = places_.emplace(selector, place);
      if (!fresh) {
        return absl::InvalidArgumentError(StrCat(place, ": the ", selector, " is in ", first->second, " already"));
      }
      RETURN_IF_ERROR(read_.AddTopic(entry.policy, place));
      if (entry.policy.kind == SelectorKind::kPattern) {
        std::shared_ptr<const re2::RE2> expression = CompilePattern(entry.policy.selector);
        RETURN_IF_ERROR(read_.AddSelector(*expression, place));
        compiled_->patterns.push_back({std::move(expression), compiled_->topics.size()});
      }
      compiled_->topics.push_back(std::move(entry.policy));
      topicPlaces_.push_back(place);
    }
    compiled_->purposes.insert(compiled_->purposes.end(), file.purposes.begin(), file.purposes.end());
    for (PurposeOf& workload : file.workloads) {
      workload.pointer = StrCat(name, ": ", workload.pointer);
      workloads_.push_back(std::move(workload));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<const Policy>> Finish() {
    RETURN_IF_ERROR(files_.CheckAllRead());
    std::vector<std::string>& purposes = compiled_->purposes;
    std::sort(purposes.begin(), purposes.end());
    purposes.erase(std::unique(purposes.begin(), purposes.end()), purposes.end());
    if (purposes.size() > kMostPurposes) {
      return absl::InvalidArgumentError(
          StrCat("the policies declare ", purposes.size(), " purposes, and may declare ", kMostPurposes));
    }
    RETURN_IF_ERROR(CheckWorkloads());
    RETURN_IF_ERROR(CheckKeyspaces());
    Totals totals;  // "purpose" makes several entries of one
    for (size_t i = 0; i < compiled_->topics.size(); ++i) {
      TopicPolicy& topic = compiled_->topics[i];
      ASSIGN_OR_RETURN(topic.rules, Compile(topic.read, topicPlaces_[i] + "/read", totals));
      if (topic.write.has_value()) {
        ASSIGN_OR_RETURN(topic.writeRules, Compile(*topic.write, topicPlaces_[i] + "/write", totals));
      }
      RETURN_IF_ERROR(totals.AddTopic(topic, topicPlaces_[i]));
    }
    compiled_->Index();
    compiled_->digest = files_.Digest();
    compiled_->hashes = files_.ByName();
    if (manifest_ != nullptr) compiled_->version = manifest_->version;
    return std::shared_ptr<const Policy>(new Policy(std::move(compiled_)));
  }

 private:
  absl::Status CheckPurpose(const std::string& purpose, const std::string& place) const {
    const std::vector<std::string>& declared = compiled_->purposes;
    if (extent_ == Extent::kPart || std::binary_search(declared.begin(), declared.end(), purpose)) {
      return absl::OkStatus();
    }
    const std::vector<std::string_view> names(declared.begin(), declared.end());
    const std::string_view nearest = config::NearestName(purpose, names);
    const std::string unknown = StrCat(place, ": unknown purpose \"", purpose, "\", ");
    if (!nearest.empty()) return absl::InvalidArgumentError(StrCat(unknown, "did you mean \"", nearest, "\"?"));
    return absl::InvalidArgumentError(StrCat(unknown, "which no file lists in \"purposes\""));
  }

  absl::Status CheckConsents(const std::vector<ReadRule>& rules, const std::string& place) const {
    for (const ReadRule& rule : rules) {
      if (!rule.where.has_value()) continue;
      for (const std::string& purpose : rule.where->consents) {
        RETURN_IF_ERROR(CheckPurpose(purpose, StrCat(place, "/", rule.position, "/where/consent")));
      }
    }
    return absl::OkStatus();
  }

  // nullptr: no entry has conditions. `totals`: with the users of the rules compiled so far, each topic's by
  // themselves.
  absl::StatusOr<std::shared_ptr<const RecordRules>> Compile(std::vector<ReadRule>& rules, const std::string& place,
                                                             Totals& totals) const {
    RETURN_IF_ERROR(CheckConsents(rules, place));
    RETURN_IF_ERROR(ExpandPurposes(rules, place));
    const bool hasConditions =
        std::any_of(rules.begin(), rules.end(), [](const ReadRule& rule) { return rule.where.has_value(); });
    if (!hasConditions) return nullptr;
    if (const auto beyond = BeyondBounds(rules)) {
      return absl::InvalidArgumentError(StrCat(place, ": ", *beyond));
    }
    auto compiled = std::make_shared<const RecordRules>(rules);
    RETURN_IF_ERROR(totals.AddUsers(compiled->users().size(), place));
    return compiled;
  }

  // The key that one entry makes is there for the other one, too.
  absl::Status CheckKeyspaces() const {
    absl::flat_hash_map<std::string_view, size_t> firsts;
    for (size_t i = 0; i < compiled_->topics.size(); ++i) {
      const std::optional<SealRule>& seal = compiled_->topics[i].seal;
      if (!seal.has_value() || seal->scope != SealScope::kUser) continue;
      const auto [first, isFirst] = firsts.emplace(seal->keyspace, i);
      if (!isFirst && compiled_->topics[first->second].seal->readmits != seal->readmits) {
        return absl::InvalidArgumentError(StrCat(topicPlaces_[i], "/afterErase: ", topicPlaces_[first->second],
                                                 " has the same keyspace \"", seal->keyspace, "\" and another one"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CheckWorkloads() const {
    absl::flat_hash_map<std::string, std::string> places;
    for (const PurposeOf& workload : workloads_) {
      RETURN_IF_ERROR(CheckPurpose(workload.purpose, workload.pointer + "/purpose"));
      const auto [first, fresh] = places.emplace(TextOf(workload.workload), workload.pointer);
      if (!fresh) {
        return absl::InvalidArgumentError(
            StrCat(workload.pointer, ": the same workload has its purpose in ", first->second, " already"));
      }
    }
    if (workloads_.size() <= kMostWorkloads) return absl::OkStatus();
    return absl::InvalidArgumentError(
        StrCat("the policies give ", workloads_.size(), " workloads a purpose, and may give ", kMostWorkloads));
  }

  // An entry with "purpose": true becomes one for each workload that has a purpose, with the consent that it needs.
  absl::Status ExpandPurposes(std::vector<ReadRule>& rules, const std::string& place) const {
    const bool hasPurposes =
        std::any_of(rules.begin(), rules.end(), [](const ReadRule& r) { return r.kind == ReadRule::Kind::kPurpose; });
    if (!hasPurposes || workloads_.empty()) return absl::OkStatus();
    std::vector<ReadRule> expanded;
    size_t texts = 0;  // users are shared
    for (ReadRule& rule : rules) {
      if (rule.kind != ReadRule::Kind::kPurpose) {
        expanded.push_back(std::move(rule));
        continue;
      }
      const std::string entry = StrCat(place, "/", rule.position);
      for (const PurposeOf& workload : workloads_) {
        texts += CountTexts(*rule.where);
        if (expanded.size() >= kMostReaders || texts > kMostTexts) {
          return absl::InvalidArgumentError(StrCat(
              entry, ": it counts for each of ", workloads_.size(),
              " workloads that have a purpose, which is more than the entries of one topic may come to: ", kMostReaders,
              " entries, and ", kMostTexts, " texts and numbers"));
        }
        if (rule.where->asksLabel() && !workload.workload.isOfPods()) {
          return absl::InvalidArgumentError(
              StrCat(entry, "/where/attribute: ", kLabelOfAnybody, ", and ", workload.pointer, " is none"));
        }
        ReadRule& added = expanded.emplace_back(workload.workload);
        added.where = rule.where;
        added.where->consents = {workload.purpose};
        added.position = rule.position;
      }
    }
    rules = std::move(expanded);
    return absl::OkStatus();
  }

  const Extent extent_;
  const bundle::Manifest* const manifest_;  // nullptr: whatever is there counts
  std::unique_ptr<Compiled> compiled_;
  absl::flat_hash_map<std::string, std::string> places_;  // "prefix orders-" -> where it was said first
  std::vector<std::string> topicPlaces_;                  // of compiled_->topics
  std::string unselectedPlace_;
  std::vector<PurposeOf> workloads_;
  Totals read_;
  PolicyFiles files_{manifest_};
  UserLists lists_{files_};
};

absl::StatusOr<std::shared_ptr<const Policy>> Policy::Parse(absl::Span<const NameAndText> namesAndTexts,
                                                            Extent extent) {
  Collector collector(extent, nullptr);
  for (const auto& [name, text] : namesAndTexts) RETURN_IF_ERROR(collector.Add(name, text));
  return collector.Finish();
}

absl::StatusOr<std::shared_ptr<const Policy>> Policy::Load(absl::Span<const std::string> paths, Extent extent) {
  Collector collector(extent, nullptr);
  RETURN_IF_ERROR(collector.Read(paths));
  return collector.Finish();
}

absl::StatusOr<std::shared_ptr<const Policy>> Policy::LoadSigned(const std::string& folder,
                                                                 const bundle::Manifest& manifest) {
  Collector collector(Extent::kWhole, &manifest);
  RETURN_IF_ERROR(collector.Read({folder}));
  return collector.Finish();
}

const TopicPolicy* Policy::Find(std::string_view topic, std::chrono::nanoseconds* searched) const {
  if (const auto found = compiled_->byName.find(topic); found != compiled_->byName.end()) return found->second;
  if (IsInternal(topic)) return nullptr;
  if (topic.starts_with("__")) return compiled_->ofUnselected;
  for (size_t length : compiled_->prefixLengths) {
    if (length > topic.size()) continue;
    const auto found = compiled_->byPrefix.find(topic.substr(0, length));
    if (found != compiled_->byPrefix.end()) return found->second;
  }
  if (compiled_->patterns.empty()) return compiled_->ofUnselected;
  if (const auto found = compiled_->found.Find(topic); found.has_value()) return *found;
  const auto began = std::chrono::steady_clock::now();
  const TopicPolicy* const found = compiled_->TryPatterns(topic);
  if (searched != nullptr) *searched += std::chrono::steady_clock::now() - began;
  compiled_->found.Add(topic, found);
  return found;
}

absl::Span<const std::string> Policy::purposes() const { return compiled_->purposes; }
Unselected Policy::unselected() const { return compiled_->unselected; }

bool Policy::RefusesUnselected(std::string_view topic) const {
  return compiled_->unselected == Unselected::kRefuse && !IsInternal(topic);
}

size_t Policy::size() const { return compiled_->topics.size(); }
size_t Policy::fileCount() const { return compiled_->files; }
const std::string& Policy::digest() const { return compiled_->digest; }
const std::map<std::string, std::string>& Policy::hashes() const { return compiled_->hashes; }
int64_t Policy::version() const { return compiled_->version; }
absl::Span<const TopicPolicy> Policy::topics() const { return compiled_->topics; }

bool IsInternal(std::string_view topic) {
  constexpr std::array<std::string_view, 4> kNames = {"__consumer_offsets", "__transaction_state",
                                                      "__share_group_state", "__cluster_metadata"};
  return std::find(kNames.begin(), kNames.end(), topic) != kNames.end();
}

bool Fits(const ReadRule& rule, const identity::Workload& workload, const identity::Claims& claims) {
  if (!Covers(rule.claimed, claims)) return false;
  if (rule.uid.has_value() && workload.uid != *rule.uid) return false;
  const identity::Pod* const pod = workload.pod.get();
  switch (rule.kind) {
    case ReadRule::Kind::kAny:
      return true;
    case ReadRule::Kind::kUnit:
      return !workload.unit.empty() && workload.unit == rule.text;
    case ReadRule::Kind::kCgroup:
      return identity::IsBelow(workload.cgroupPath, rule.text);
    case ReadRule::Kind::kServiceAccount:
      return pod != nullptr && !pod->serviceAccount.empty() &&
             StrCat(pod->nameSpace, "/", pod->serviceAccount) == rule.text;
    case ReadRule::Kind::kPurpose:
      return false;
    case ReadRule::Kind::kNamespace:
      return pod != nullptr && pod->nameSpace == rule.text &&
             std::includes(pod->labels.begin(), pod->labels.end(), rule.labels.begin(), rule.labels.end());
  }
  return false;
}

bool NamesPods(const TopicPolicy& topic) {
  const auto isOfPods = [](const ReadRule& rule) { return rule.isOfPods(); };
  return std::any_of(topic.read.begin(), topic.read.end(), isOfPods) ||
         (topic.write.has_value() && std::any_of(topic.write->begin(), topic.write->end(), isOfPods));
}

bool MayRead(const TopicPolicy& topic, const identity::Workload& workload, const identity::Claims& claims) {
  return std::any_of(topic.read.begin(), topic.read.end(),
                     [&](const ReadRule& rule) { return Fits(rule, workload, claims); });
}

namespace {

Readable AccessBy(const std::vector<ReadRule>& rules, const identity::Workload& workload,
                  const identity::Claims& claims, EntrySet& entries) {
  entries = EntrySet();
  Readable readable = Readable::kNothing;
  for (size_t i = 0; i < rules.size(); ++i) {
    if (!Fits(rules[i], workload, claims)) continue;
    if (!rules[i].where.has_value()) return Readable::kEverything;
    entries.Add(i);
    readable = Readable::kSome;
  }
  return readable;
}

}  // namespace

std::optional<size_t> EntryForAll(const std::vector<ReadRule>& rules, const identity::Workload& workload,
                                  const identity::Claims& claims) {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const ReadRule& rule) {
    return !rule.where.has_value() && Fits(rule, workload, claims);
  });
  if (found == rules.end()) return std::nullopt;
  return static_cast<size_t>(found - rules.begin());
}

Readable ReadableBy(const TopicPolicy& topic, const identity::Workload& workload, EntrySet& entries,
                    const identity::Claims& claims) {
  if (topic.rules == nullptr) return MayRead(topic, workload, claims) ? Readable::kEverything : Readable::kNothing;
  return AccessBy(topic.read, workload, claims, entries);
}

Readable WritableBy(const TopicPolicy& topic, const identity::Workload& workload, EntrySet& entries,
                    const identity::Claims& claims) {
  if (!topic.write.has_value()) return Readable::kEverything;
  if (topic.writeRules != nullptr) return AccessBy(*topic.write, workload, claims, entries);
  const bool isAny = std::any_of(topic.write->begin(), topic.write->end(),
                                 [&](const ReadRule& rule) { return Fits(rule, workload, claims); });
  return isAny ? Readable::kEverything : Readable::kNothing;
}

}  // namespace kveil::policy
