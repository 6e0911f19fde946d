// What is known of users, as the admin commands change and read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "users/facts_change.h"
#include "users/user_facts.h"

namespace kveil::keys {

// One call changes no more than this: whoever asks for keys meanwhile waits for it.
inline constexpr size_t kMostUserChanges = 256;

struct UserChange {
  std::string user;
  std::string keyspace;
  users::FactsChange change;
};

// What became of the changes.
struct ChangedUsers {
  enum class Outcome {
    kChanged,
    kUnchanged,  // it was so before
    kErased,     // the user was erased in that keyspace: nothing is known, nor will be
    kTooMany,    // the user has the most consents or attributes that there may be
  };
  std::vector<Outcome> outcomes;  // in the order of the changes
  int64_t number = 0;             // of the last change, now or before, see AwaitAgents; 0: nothing was ever known
  uint64_t opening = 0;           // Registry::openings of the connection that was asked
};

// What is known of a user in one keyspace.
struct KnownUser {
  struct PastChange {
    absl::Time time;
    std::string text;  // JSON, see users/facts_change.h
  };
  std::string keyspace;
  users::UserFacts facts;
  bool isDamaged = false;            // what is stored makes no sense, and counts as nothing
  std::optional<absl::Time> erased;  // when the user was erased there
  std::vector<PastChange> history;   // of consents, the oldest first; the last Registry::kMostPastChanges
};

}  // namespace kveil::keys
