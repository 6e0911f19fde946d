// One change to what is known of a user.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
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

// The time of an RFC 3339 text, such as 2027-01-01T00:00:00Z, or of a date, at whose beginning in UTC the consent ends.
// Rounded down to milliseconds. kInvalidArgument in words for whoever wrote it.
absl::StatusOr<absl::Time> ParseUntil(std::string_view text);

// OK, or kInvalidArgument in words for whoever asked for it: the name, the time or the value is malformed.
absl::Status Check(const FactsChange& change);

// Applies a change that Check is content with. What is there already, or not there to be withdrawn or removed, changes
// nothing. kResourceExhausted, and nothing is changed: the user has kMostConsents or kMostAttributes.
absl::Status Apply(const FactsChange& change, UserFacts& facts);

// Notes that a command has withdrawn the purpose, see users::Withdrawal; `until` may be before `time`. Beyond
// kMostWithdrawals the oldest one goes for every purpose.
void NoteWithdrawal(std::string_view purpose, absl::Time time, absl::Time until, UserFacts& facts);
// The purpose was granted again.
void ForgetWithdrawal(std::string_view purpose, UserFacts& facts);

// What changes consents `before` to `after`, both by purpose.
std::vector<FactsChange> Difference(const std::vector<Consent>& before, const std::vector<Consent>& after);

// What is kept of changes that were made at once by the user of the operating system with number `uid`, or without one
// by a record of a topic, at `agent`. Of consents only; attributes leave no trace. Empty: nothing is kept. JSON, for
// example
//
//   {"uid":0,"agent":"node-1:812","granted":[{"purpose":"marketing","until":"2027-01-01T00:00:00Z"}],"withdrawn":["news"]}
std::string HistoryOf(absl::Span<const FactsChange> changes, std::optional<uint32_t> uid, std::string_view agent);

}  // namespace kveil::users
