// The compiled policy: which entry a topic has, and whether a workload fits it.
#include "policy/policy.h"

#include <re2/re2.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <set>

#include "absl/container/flat_hash_map.h"
#include "base/text.h"
#include "config/read_file.h"
#include "identity/cgroup_path.h"
#include "policy/policy_reader.h"

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

absl::StatusOr<std::vector<std::string>> ExpandFolders(absl::Span<const std::string> paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    struct stat facts = {};
    if (::stat(path.c_str(), &facts) != 0) return absl::ErrnoToStatus(errno, StrCat(path, ": cannot read"));
    if (!S_ISDIR(facts.st_mode)) {
      files.push_back(path);
      continue;
    }
    absl::StatusOr<std::vector<std::string>> inside = config::FilesOfFolder(path);
    if (!inside.ok()) return inside.status();
    files.insert(files.end(), inside->begin(), inside->end());
  }
  return files;
}

}  // namespace

struct Policy::Compiled {
  struct Pattern {
    std::unique_ptr<re2::RE2> expression;
    const TopicPolicy* topic;
  };

  std::vector<TopicPolicy> topics;  // never changes once the pointers below are taken
  size_t files = 0;
  absl::flat_hash_map<std::string_view, const TopicPolicy*> byName;
  absl::flat_hash_map<std::string_view, const TopicPolicy*> byPrefix;
  std::vector<size_t> prefixLengths;  // those that occur, longest first
  std::vector<Pattern> patterns;
  Unselected unselected = Unselected::kPass;
  const TopicPolicy* ofUnselected = nullptr;

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
          patterns.push_back({std::make_unique<re2::RE2>(topic.selector, re2::RE2::Quiet), &topic});
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

absl::StatusOr<std::shared_ptr<const Policy>> Policy::Parse(absl::Span<const NameAndText> namesAndTexts) {
  auto compiled = std::make_unique<Compiled>();
  compiled->files = namesAndTexts.size();
  absl::flat_hash_map<std::string, std::string> places;  // "prefix orders-" -> where it was said first
  std::string unselectedPlace;
  for (const auto& [name, text] : namesAndTexts) {
    absl::StatusOr<ReadFile> file = ReadPolicyText(text, name);
    if (!file.ok()) return file.status();
    if (file->unselected.has_value()) {
      const std::string place = StrCat(name, ": /unselected");
      if (!unselectedPlace.empty()) {
        return absl::InvalidArgumentError(StrCat(place, ": \"unselected\" is in ", unselectedPlace, " already"));
      }
      unselectedPlace = place;
      compiled->unselected = *file->unselected;
    }
    for (ReadTopic& entry : file->topics) {
      const std::string selector = StrCat(SelectorName(entry.policy.kind), " \"", entry.policy.selector, "\"");
      const std::string place = StrCat(name, ": ", entry.pointer);
      const auto [first, fresh] = places.emplace(selector, place);
      if (!fresh) {
        return absl::InvalidArgumentError(StrCat(place, ": the ", selector, " is in ", first->second, " already"));
      }
      compiled->topics.push_back(std::move(entry.policy));
    }
  }
  compiled->Index();
  return std::shared_ptr<const Policy>(new Policy(std::move(compiled)));
}

absl::StatusOr<std::shared_ptr<const Policy>> Policy::Load(absl::Span<const std::string> paths) {
  const absl::StatusOr<std::vector<std::string>> files = ExpandFolders(paths);
  if (!files.ok()) return files.status();
  std::vector<NameAndText> texts;
  for (const std::string& file : *files) {
    absl::StatusOr<std::string> text = config::ReadTextFile(file);
    if (!text.ok()) return text.status();
    texts.emplace_back(file, *std::move(text));
  }
  return Parse(texts);
}

const TopicPolicy* Policy::Find(std::string_view topic) const {
  if (const auto found = compiled_->byName.find(topic); found != compiled_->byName.end()) return found->second;
  if (IsInternal(topic)) return nullptr;
  if (topic.starts_with("__")) return compiled_->ofUnselected;
  for (size_t length : compiled_->prefixLengths) {
    if (length > topic.size()) continue;
    const auto found = compiled_->byPrefix.find(topic.substr(0, length));
    if (found != compiled_->byPrefix.end()) return found->second;
  }
  for (const Compiled::Pattern& pattern : compiled_->patterns) {
    if (re2::RE2::FullMatch(re2::StringPiece(topic.data(), topic.size()), *pattern.expression)) return pattern.topic;
  }
  return compiled_->ofUnselected;
}

Unselected Policy::unselected() const { return compiled_->unselected; }

bool Policy::RefusesUnselected(std::string_view topic) const {
  return compiled_->unselected == Unselected::kRefuse && !IsInternal(topic);
}

size_t Policy::size() const { return compiled_->topics.size(); }
size_t Policy::fileCount() const { return compiled_->files; }
absl::Span<const TopicPolicy> Policy::topics() const { return compiled_->topics; }

bool IsInternal(std::string_view topic) {
  constexpr std::array<std::string_view, 4> kNames = {"__consumer_offsets", "__transaction_state",
                                                      "__share_group_state", "__cluster_metadata"};
  return std::find(kNames.begin(), kNames.end(), topic) != kNames.end();
}

bool Fits(const ReadRule& rule, const identity::Workload& workload) {
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
    case ReadRule::Kind::kNamespace:
      return pod != nullptr && pod->nameSpace == rule.text &&
             std::includes(pod->labels.begin(), pod->labels.end(), rule.labels.begin(), rule.labels.end());
  }
  return false;
}

bool NamesPods(const TopicPolicy& topic) {
  return std::any_of(topic.read.begin(), topic.read.end(), [](const ReadRule& rule) {
    return rule.kind == ReadRule::Kind::kServiceAccount || rule.kind == ReadRule::Kind::kNamespace;
  });
}

bool MayRead(const TopicPolicy& topic, const identity::Workload& workload) {
  return std::any_of(topic.read.begin(), topic.read.end(), [&](const ReadRule& rule) { return Fits(rule, workload); });
}

Readable ReadableBy(const TopicPolicy& topic, const identity::Workload& workload, EntrySet& entries) {
  if (topic.rules == nullptr) return MayRead(topic, workload) ? Readable::kEverything : Readable::kNothing;
  entries = EntrySet();
  Readable readable = Readable::kNothing;
  for (size_t i = 0; i < topic.read.size(); ++i) {
    if (!Fits(topic.read[i], workload)) continue;
    if (!topic.read[i].where.has_value()) return Readable::kEverything;
    entries.Add(i);
    readable = Readable::kSome;
  }
  return readable;
}

}  // namespace kveil::policy
