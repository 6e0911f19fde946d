// `kveil policy check`: reads policies as the agent would and says what they mean.
#include <algorithm>
#include <iostream>

#include "base/text.h"
#include "cli/common.h"
#include "config/read_file.h"
#include "nlohmann/json.hpp"
#include "policy/policy.h"
#include "policy/policy_advice.h"
#include "policy/policy_text.h"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;
using policy::Policy;
using policy::TopicPolicy;

std::string_view KindName(policy::SelectorKind kind) {
  switch (kind) {
    case policy::SelectorKind::kName:
      return "name";
    case policy::SelectorKind::kPrefix:
      return "prefix";
    case policy::SelectorKind::kPattern:
      return "pattern";
    case policy::SelectorKind::kUnselected:
      break;
  }
  return "unselected";
}

std::string SealText(const TopicPolicy& topic) {
  if (!topic.seal) return "not sealed here";
  const std::string under = topic.seal->kek.has_value() ? StrCat(" under the KEK ", topic.seal->kek->Text()) : "";
  switch (topic.seal->scope) {
    case policy::SealScope::kCluster:
      return "sealed with the cluster's key" + under;
    case policy::SealScope::kTopic:
      return "sealed with the topic's key" + under;
    case policy::SealScope::kUser:
      break;
  }
  return StrCat("sealed with the user's key (", policy::TextOf(topic.seal->user), ", keyspace ", topic.seal->keyspace,
                ")", under);
}

std::string EntriesText(const std::vector<policy::ReadRule>& rules) {
  if (rules.empty()) return "nobody";
  std::string text;
  for (const policy::ReadRule& rule : rules) {
    StrAppend(&text, text.empty() ? "" : ", ", policy::TextOf(rule));
    const std::string where = rule.where.has_value() ? policy::TextOf(*rule.where) : "";
    if (!where.empty()) StrAppend(&text, " (", where, ")");
  }
  return text;
}

std::string ReadersText(const TopicPolicy& topic) {
  std::string text = StrCat("read by ", EntriesText(topic.read));
  if (topic.onDenied != policy::OnHidden::kDrop) {
    StrAppend(&text, ", other records are ", policy::TextOf(topic.onDenied, topic.deniedMask));
  }
  if (topic.write.has_value()) StrAppend(&text, ", written by ", EntriesText(*topic.write));
  return text;
}

// One file's topics and what becomes of them.
Json Describe(const std::string& file, const Policy& policy) {
  Json topics = Json::array();
  for (const TopicPolicy& topic : policy.topics()) {
    topics.push_back(
        {{std::string(KindName(topic.kind)), topic.selector}, {"seal", SealText(topic)}, {"read", ReadersText(topic)}});
  }
  Json described = {{"file", file}, {"topics", std::move(topics)}, {"advice", Json::array()}};
  if (!policy.purposes().empty()) described["purposes"] = policy.purposes();
  if (policy.unselected() == policy::Unselected::kRefuse) described["unselected"] = "refused";
  return described;
}

void PrintText(const Json& files) {
  for (const Json& file : files) {
    std::cout << file["file"].get<std::string>() << ": good\n";
    for (const Json& topic : file["topics"]) {
      for (const char* kind : {"name", "prefix", "pattern"}) {
        if (topic.contains(kind)) std::cout << "  " << kind << " " << topic[kind].get<std::string>() << ": ";
      }
      if (topic.contains("unselected")) std::cout << "  topics that no entry selects: ";
      std::cout << topic["seal"].get<std::string>() << ", " << topic["read"].get<std::string>() << "\n";
    }
    if (file.contains("purposes")) {
      std::string purposes;
      for (const Json& purpose : file["purposes"]) {
        StrAppend(&purposes, purposes.empty() ? "" : ", ", purpose.get<std::string>());
      }
      std::cout << "  purposes: " << purposes << "\n";
    }
    if (file.contains("unselected")) std::cout << "  topics that no entry selects: not written to\n";
  }
}

// To each file what is advised on it; what is of no file in particular, to the first.
void AddAdvice(const std::vector<std::string>& advice, Json& files) {
  for (const std::string& text : advice) {
    auto of = std::find_if(files.begin(), files.end(),
                           [&](const Json& file) { return text.starts_with(file["file"].get<std::string>() + ": "); });
    if (of == files.end()) of = files.begin();
    (*of)["advice"].push_back(text);
  }
}

}  // namespace

int RunPolicyCheck(const CommonOptions& common, const std::vector<std::string>& paths, bool isStrict) {
  std::vector<std::string> given = paths;
  if (given.empty()) {
    const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
    if (!config.ok()) return Fail("policy check", config.status());
    given.push_back(config->policies.folder);
    if (!config->policies.trustedKeys.empty()) {
      Warn("policy check",
           "it does not look at signatures, which this configuration asks for: kveil policy verify does");
    }
  }
  const absl::StatusOr<std::vector<std::string>> files = config::FilesOf(given);
  if (!files.ok()) return Fail("policy check", files.status());

  int exitStatus = 0;
  Json good = Json::array();
  for (const std::string& file : *files) {
    const absl::StatusOr<std::shared_ptr<const Policy>> policy = Policy::Load({file}, Policy::Extent::kPart);
    if (policy.ok()) {
      good.push_back(Describe(file, **policy));
    } else {
      exitStatus = Fail("policy check", policy.status());
    }
  }
  // Each may be good and all together not: the same topic in two of them, or a purpose that none declares.
  bool othersPass = false;
  if (good.size() == files->size()) {
    const absl::StatusOr<std::shared_ptr<const Policy>> together = Policy::Load(*files);
    if (together.ok()) {
      AddAdvice(policy::AdviceOn(**together), good);
    } else {
      exitStatus = Fail("policy check", together.status());
    }
    othersPass = together.ok() && (*together)->unselected() == policy::Unselected::kPass;
  }
  for (const Json& file : good) {
    for (const Json& advice : file["advice"]) Warn("policy check", advice.get<std::string>());
    if (isStrict && !file["advice"].empty()) exitStatus = 1;
  }
  if (common.json) {
    std::cout << good.dump(2) << "\n";
  } else {
    PrintText(good);
    if (othersPass) std::cout << "topics that no entry selects pass in clear text\n";
  }
  return exitStatus;
}

}  // namespace kveil::cli
