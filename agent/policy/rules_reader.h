// Reads who may read and write.
#pragma once

#include <string_view>
#include <vector>

#include "config/json_value.h"
#include "policy/policy.h"
#include "policy/user_list.h"

// Errors go to the document.
namespace kveil::policy {

// Why an entry may not compare an attribute with a label: for any pod, it would be what whoever made it says.
inline constexpr std::string_view kLabelOfAnybody =
    "\"label\" counts for the workloads of a \"serviceAccount\" or a \"namespace\" only: any other workload may be a "
    "pod whose labels its own user chose";

// {"principal": "User:a", "certificate": "CN=a", "clientId": "a"}: at least one of them.
identity::Claims ReadClaimed(const config::JsonValue& value);

// {"unit": "a.service"}: what the kernel or Kubernetes attests, or what is claimed, or both.
ReadRule ReadWorkload(const config::JsonValue& value);

// The entries of `read` and of `write`. `topic`: as far as it was read; its seal says whether records have users.
std::vector<ReadRule> ReadReaders(const config::JsonValue& value, const TopicPolicy& topic, UserLists& lists);
std::vector<ReadRule> ReadWriters(const config::JsonValue& value, const TopicPolicy& topic, UserLists& lists);

}  // namespace kveil::policy
