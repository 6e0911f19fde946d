// One change to what is known of a user.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "users/user_facts.h"

namespace kveil::users {

struct FactsChange {
  enum class Kind {
    kGrant,     // `name` is the purpose; a consent that is there ends at `until` from now on
    kWithdraw,  // `name` is the purpose
    kSet,       // `name` is the attribute
    kRemove,    // `name` is the attribute
  };
  Kind kind = Kind::kGrant;
  std::string name;
  absl::Time until = absl::InfiniteFuture();  // kGrant
  std::string value;                          // kSet

  friend bool operator==(const FactsChange&, const FactsChange&) = default;
};

// OK, or kInvalidArgument in words for whoever asked for it: the name, the time or the value is malformed.
absl::Status Check(const FactsChange& change);

// Applies a change that Check is content with. What is there already, or not there to be withdrawn or removed, changes
// nothing. kResourceExhausted, and nothing is changed: the user has kMostConsents or kMostAttributes.
absl::Status Apply(const FactsChange& change, UserFacts& facts);

}  // namespace kveil::users
