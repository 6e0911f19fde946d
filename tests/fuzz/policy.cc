// A policy file of any text: refused in one line, or read into entries that keep what the file format promises.
#include "policy/policy.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/text.h"
#include "formats/json_finder.h"
#include "fuzz.h"
#include "policy/explain.h"

namespace kveil::fuzz {
namespace {

// A record that some entry may well fit: it has the texts that the entries name.
policy::DescribedRecord RecordFor(const policy::TopicPolicy& topic, size_t entry) {
  policy::DescribedRecord record;
  record.age = std::chrono::hours(entry);
  const std::vector<std::string>& users = topic.rules->users();
  if (!users.empty()) record.user = users[entry % users.size()];
  if (!topic.read[entry].where.has_value()) return record;
  const policy::Where& where = *topic.read[entry].where;
  record.consents = where.consents;
  for (const policy::AttributeTest& attribute : where.attributes) {
    if (!attribute.texts.empty()) record.attributes.emplace_back(attribute.name, attribute.texts.back());
  }
  if (where.asksFacts() && !record.user.has_value()) record.user = "38";
  std::string value = where.asksFacts() ? R"({"user":38)" : "";
  for (const policy::HeaderTest& header : topic.read[entry].where->headers) {
    if (!header.test.texts.empty()) record.headers.emplace_back(header.name, header.test.texts.back());
  }
  for (const policy::ValueTest& test : topic.read[entry].where->values) {
    const std::string& name = test.pointer.steps().front().name.text();
    const std::string text = test.test.texts.empty() ? "7" : StrCat("\"", test.test.texts.front(), "\"");
    StrAppend(&value, value.empty() ? "{" : ",", "\"", name, "\":", text);
  }
  if (!value.empty()) record.value = value + "}";
  return record;
}

// What the registry would have of the record's user.
users::UserFacts FactsOf(const policy::DescribedRecord& record) {
  users::UserFacts facts;
  for (const std::string& purpose : record.consents) facts.consents.push_back({.purpose = purpose});
  facts.attributes = record.attributes;
  std::sort(facts.consents.begin(), facts.consents.end(),
            [](const users::Consent& a, const users::Consent& b) { return a.purpose < b.purpose; });
  std::sort(facts.attributes.begin(), facts.attributes.end());
  return facts;
}

// The rules as they are compiled, for the agent, and entry by entry, for the commands.
void CheckRules(const policy::TopicPolicy& topic, const identity::Workload& workload) {
  policy::EntrySet readers;
  if (policy::ReadableBy(topic, workload, readers) != policy::Readable::kSome) return;
  formats::JsonFinder finder;
  for (size_t entry = 0; entry < std::min<size_t>(topic.read.size(), 8); ++entry) {
    const policy::DescribedRecord record = RecordFor(topic, entry);
    policy::RecordRules::Outside outside;
    outside.age = record.age;
    for (size_t i = 0; i < topic.rules->headers().size(); ++i) {
      for (const auto& [name, text] : record.headers) {
        if (name == topic.rules->headers()[i]) outside.headers[i] = text;
      }
    }
    policy::EntrySet left = readers;
    uint64_t work = 0;
    topic.rules->NarrowByOutside(outside, left, work);
    topic.rules->NarrowByUser(record.user.has_value() ? topic.rules->NumberOf(*record.user) : std::nullopt, left);
    const users::UserFacts known = FactsOf(record);
    const bool isSealed = record.user.has_value() && record.value.has_value();
    topic.rules->Narrow(topic.rules->MetBy(isSealed ? &known : nullptr, absl::Now(), workload, work), left);
    const auto answer = topic.rules->AnswerOf(left);
    bool mayRead = answer == policy::RecordRules::Answer::kMayRead;
    if (answer == policy::RecordRules::Answer::kDependsOnValue && record.value.has_value()) {
      const std::string padded = *record.value + std::string(64, ' ');
      mayRead = topic.rules->FitsValue(AsBytes(padded).first(record.value->size()), finder, left, work);
    }
    const policy::Explanation explained = policy::ExplainRecord(&topic, {.workload = workload, .claims = {}}, record);
    const bool isExplained = explained.readable == policy::Readable::kEverything;
    Check(mayRead == isExplained, "the agent lets a record be read exactly if the commands say so");
  }
}

void CheckTopic(const policy::Policy& policy, const policy::TopicPolicy& topic) {
  const bool isOfUnselected = topic.kind == policy::SelectorKind::kUnselected;
  Check(topic.selector.empty() == isOfUnselected, "an entry selects by something");
  if (topic.kind == policy::SelectorKind::kName) {
    Check(policy.Find(topic.selector) == &topic, "a topic that is named is found");
  }
  const std::string internal = StrCat("__", topic.selector);
  const policy::TopicPolicy* found = policy.Find(internal);
  const bool isUnselected =
      found != nullptr && found->kind == policy::SelectorKind::kUnselected && !policy::IsInternal(internal);
  Check(found == nullptr || found->kind == policy::SelectorKind::kName || isUnselected,
        "no prefix and no pattern selects what begins with two underscores");
  if (topic.seal.has_value() && topic.seal->scope == policy::SealScope::kUser) {
    const policy::UserSource& user = topic.seal->user;
    Check(user.from != policy::UserSource::From::kHeader || !user.header.empty(), "a header with the user has a name");
    Check(user.from != policy::UserSource::From::kValue || !user.pointers.empty(), "a value is looked into");
    for (const formats::JsonPointer& pointer : user.pointers) {
      Check(!pointer.steps().empty(), "a JSON pointer leads into the document");
    }
    Check(!topic.seal->keyspace.empty(), "user keys have a keyspace");
  }
  identity::Workload workload;
  workload.cgroupPath = "/system.slice/x.service";
  workload.unit = "x.service";
  Check(!topic.read.empty() || !policy::MayRead(topic, workload), "a topic without readers is read by nobody");
  if (topic.rules != nullptr) CheckRules(topic, workload);
}

}  // namespace

void Run(Bytes input) {
  const std::vector<std::pair<std::string, std::string>> files = {{"fuzz.json", std::string(AsText(input))}};
  const auto policy = policy::Policy::Parse(files);
  if (!policy.ok()) {
    const std::string_view message = ToStd(policy.status().message());
    Check(absl::IsInvalidArgument(policy.status()), "a policy that is refused is the file's fault");
    Check(message.starts_with("fuzz.json"), "an error names its file");
    Check(message.find('\n') == std::string_view::npos, "an error is one line");
    return;
  }
  for (const policy::TopicPolicy& topic : (*policy)->topics()) CheckTopic(**policy, topic);
  (void)(*policy)->Find(AsText(input));
}

}  // namespace kveil::fuzz
