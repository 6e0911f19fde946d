// `kveil policy diff`: who gains and who loses what when some policies take the place of others.
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/common.h"
#include "nlohmann/json.hpp"
#include "policy/policy.h"
#include "policy/policy_diff.h"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;
using policy::Policy;

// As `diff` has it.
constexpr int kDifferent = 1;
constexpr int kTrouble = 2;

Json JsonOf(const policy::PolicyDiff& diff) {
  Json accesses = Json::array();
  for (const policy::AccessChange& change : diff.accesses) {
    accesses.push_back({{"topic", change.topic},
                        {"workload", change.workload},
                        {"access", change.access == policy::Access::kWrite ? "write" : "read"},
                        {"gains", change.gains},
                        {"loses", change.loses},
                        {"keeps", change.keeps},
                        {"text", policy::TextOf(change)}});
  }
  Json topics = Json::array();
  for (const policy::TopicChange& change : diff.topics)
    topics.push_back({{"topic", change.topic}, {"what", change.what}});
  return {{"same", diff.empty()}, {"workloads", std::move(accesses)}, {"topics", std::move(topics)}};
}

}  // namespace

int RunPolicyDiff(const CommonOptions& common, const std::string& before, const std::string& after) {
  std::shared_ptr<const Policy> policies[2];
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<std::shared_ptr<const Policy>> policy = Policy::Load({i == 0 ? before : after});
    if (!policy.ok()) {
      Fail("policy diff", policy.status());
      return kTrouble;
    }
    policies[i] = *std::move(policy);
  }
  const policy::PolicyDiff diff = policy::Compare(*policies[0], *policies[1]);
  if (common.json) {
    std::cout << JsonOf(diff).dump(2) << "\n";
  } else {
    for (const policy::TopicChange& change : diff.topics) std::cout << policy::TextOf(change) << "\n";
    for (const policy::AccessChange& change : diff.accesses) std::cout << policy::TextOf(change) << "\n";
  }
  return diff.empty() ? 0 : kDifferent;
}

}  // namespace kveil::cli
