// `kveil policy explain`: what a workload may read, and which entry of the policy decides.
#include <iostream>

#include "base/status_macros.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/policy_cases.h"
#include "config/read_file.h"
#include "nlohmann/json.hpp"
#include "policy/explain.h"
#include "policy/policy.h"
#include "policy/signed_policies.h"

namespace kveil::cli {
namespace {

using policy::DescribedRecord;
using policy::Explanation;
using policy::Policy;

absl::StatusOr<std::shared_ptr<const Policy>> ReadPolicies(const CommonOptions& common,
                                                           const PolicyExplainOptions& options) {
  if (!options.policies.empty()) return Policy::Load(options.policies);
  ASSIGN_OR_RETURN(const config::AgentConfig config, ReadConfig(common));
  return policy::LoadPolicies(config.policies.folder, policy::TrustOf(config));
}

// nullopt: the question is about the topic as a whole.
absl::StatusOr<std::optional<DescribedRecord>> RecordOf(const PolicyExplainOptions& options) {
  const bool isOfRecord = !options.record.empty() || options.user.has_value() || !options.consents.empty() ||
                          !options.attributes.empty() || options.isErased;
  if (!isOfRecord) return std::optional<DescribedRecord>();
  DescribedRecord record;
  if (!options.record.empty()) {
    ASSIGN_OR_RETURN(const std::string text, config::ReadTextFile(options.record));
    ASSIGN_OR_RETURN(config::JsonDocument document, config::JsonDocument::Parse(text, options.record));
    record = ReadRecord(document.root());
    RETURN_IF_ERROR(document.status());
  }
  if (options.user.has_value()) record.user = options.user;
  if (options.isErased) record.isErased = true;
  record.consents.insert(record.consents.end(), options.consents.begin(), options.consents.end());
  for (const std::string& attribute : options.attributes) {
    const size_t equals = attribute.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(StrCat("--attribute: expected NAME=VALUE, found \"", attribute, "\""));
    }
    record.attributes.emplace_back(attribute.substr(0, equals), attribute.substr(equals + 1));
  }
  if (!record.user.has_value() && options.record.empty()) {
    return absl::InvalidArgumentError(
        "--consent, --attribute and --erased say something of a user: add --user or --record");
  }
  return std::optional<DescribedRecord>(std::move(record));
}

policy::Access AccessOf(const PolicyExplainOptions& options) {
  return options.isOfWriting ? policy::Access::kWrite : policy::Access::kRead;
}

struct Answer {
  Explanation explanation;
  bool isOfRecord = false;
  bool isSelected = false;
};

absl::StatusOr<Answer> Explain(const CommonOptions& common, const PolicyExplainOptions& options) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Policy> policies, ReadPolicies(common, options));
  ASSIGN_OR_RETURN(const policy::DescribedClient client, ParseClient(options.workload));
  ASSIGN_OR_RETURN(std::optional<DescribedRecord> record, RecordOf(options));
  const policy::TopicPolicy* const topic = policies->Find(options.topic);
  Answer answer;
  answer.isSelected = topic != nullptr;
  answer.isOfRecord = record.has_value();
  if (!record.has_value()) {
    answer.explanation = policy::ExplainTopic(topic, client, AccessOf(options));
    if (topic != nullptr && topic->seal.has_value() && topic->seal->kek.has_value()) {
      const policy::KekRule& kek = *topic->seal->kek;  // the cluster is not known here
      StrAppend(&answer.explanation.why, "; its records are sealed under the KEK ", kek.provider, "/",
                policy::KekKeyOf(kek, policy::kClusterPlace, options.topic));
    }
    return answer;
  }
  RETURN_IF_ERROR(CheckConsents(*record, *policies));
  ASSIGN_OR_RETURN(const DescribedRecord described, WithUser(*std::move(record), topic));
  answer.explanation = policy::ExplainRecord(topic, client, described, AccessOf(options));
  return answer;
}

}  // namespace

int RunPolicyExplain(const CommonOptions& common, const PolicyExplainOptions& options) {
  const absl::StatusOr<Answer> answer = Explain(common, options);
  if (!answer.ok()) return Fail("policy explain", answer.status());
  const std::string_view word = WordFor(OutcomeOf(answer->explanation), answer->isOfRecord, AccessOf(options));
  if (!common.json) {
    std::cout << word << ": " << answer->explanation.why << "\n";
    return 0;
  }
  nlohmann::json json = {{"topic", options.topic},
                         {"protected", answer->isSelected},
                         {answer->isOfRecord    ? "record"
                          : options.isOfWriting ? "writes"
                                                : "reads",
                          std::string(word)},
                         {"why", answer->explanation.why}};
  if (answer->explanation.entry.has_value()) json["entry"] = *answer->explanation.entry + 1;
  std::cout << json.dump(2) << "\n";
  return 0;
}

}  // namespace kveil::cli
