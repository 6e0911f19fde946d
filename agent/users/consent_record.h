// A record of a topic that consents come from.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "users/user_facts.h"

namespace kveil::users {

inline constexpr size_t kLongestConsentRecord = 64 * 1024;  // bytes

// All consents of a user, by purpose, from a record's value such as
//
//   {"purposes": {"marketing": true, "news": false, "research": {"until": "2027-01-01"}}}
//   {"purposes": ["marketing", "research"], "meta": {"by": "the portal"}}
//
// `meta` may hold anything. Any other member, a name that is there twice, and whatever else might mean less than it
// looks like is kInvalidArgument, with a reason in words that holds nothing of the record.
absl::StatusOr<std::vector<Consent>> ParseConsentRecord(std::string_view value);

}  // namespace kveil::users
