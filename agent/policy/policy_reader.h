// Reads one policy file into its entries.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "config/json_value.h"
#include "policy/policy.h"
#include "policy/user_list.h"

namespace kveil::policy {

// One entry and the JSON pointer where it is.
struct ReadTopic {
  TopicPolicy policy;
  std::string pointer;
};

// A workload that has a purpose.
struct PurposeOf {
  ReadRule workload;
  std::string purpose;
  std::string pointer;
};

struct ReadFile {
  std::vector<ReadTopic> topics;  // with kSeal also an entry of SelectorKind::kUnselected
  std::optional<Unselected> unselected;
  std::vector<std::string> purposes;
  std::vector<PurposeOf> workloads;
};

// Workloads that all policies together may give purposes.
inline constexpr size_t kMostWorkloads = 1024;

// kInvalidArgument with one line "NAME: JSON POINTER: what was expected and what was found". `lists`: of the files of
// users that the policies read so far name.
absl::StatusOr<ReadFile> ReadPolicyText(std::string_view text, const std::string& name, UserLists& lists);

}  // namespace kveil::policy
