// How `policy explain` and `policy test` describe workloads and records.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/json_value.h"
#include "policy/explain.h"
#include "policy/policy.h"

namespace kveil::cli {

// {"unit": "a.service", "uid": 33, "claimed": {"principal": "User:a"}}, as in a policy. Errors go to the document.
policy::DescribedClient ReadClient(const config::JsonValue& value);
// The same, or as "unit=a.service,uid=33,claimed.principal=User:a". kInvalidArgument: it is something else.
absl::StatusOr<policy::DescribedClient> ParseClient(const std::string& text);

// {"user": "38", "consents": ["marketing"], "attributes": {"region": "eu"}, "key": "k", "headers": {"region": "eu"},
// "value": {...}, "age": "48h", "erased": true}, each of which may be missing.
policy::DescribedRecord ReadRecord(const config::JsonValue& value);

// kInvalidArgument: the record's user consents to what no policy declares as a purpose.
absl::Status CheckConsents(const policy::DescribedRecord& record, const policy::Policy& policies);

// The record with its user: the one that was given, in the spelling of the topic's seal, or the one that the agent
// finds in the record. kInvalidArgument: the user that was given is none.
absl::StatusOr<policy::DescribedRecord> WithUser(policy::DescribedRecord record, const policy::TopicPolicy* topic);

// What an expectation of one record, or of a topic, may be, and what it means.
struct Outcome {
  policy::Readable readable = policy::Readable::kNothing;
  bool isErased = false;

  friend bool operator==(const Outcome&, const Outcome&) = default;
};
inline Outcome OutcomeOf(const policy::Explanation& explanation) {
  return {explanation.readable, explanation.isErased};
}

// How much may be read or written: of one record "read", "written", "erased" or "denied", of a topic "everything",
// "some" or "nothing".
std::string_view WordFor(Outcome outcome, bool isOfRecord, policy::Access access);

}  // namespace kveil::cli
