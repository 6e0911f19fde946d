// Reads one policy file into its entries.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "policy/policy.h"

namespace kveil::policy {

// One entry and the JSON pointer where it is.
struct ReadTopic {
  TopicPolicy policy;
  std::string pointer;
};

// kInvalidArgument with one line "NAME: JSON POINTER: what was expected and what was found".
absl::StatusOr<std::vector<ReadTopic>> ReadPolicyText(std::string_view text, const std::string& name);

}  // namespace kveil::policy
