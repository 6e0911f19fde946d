// What is known of users, as the admin commands change and read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "keys/registry/registry.h"
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
    kFollowed,   // the user's consents come from a topic, and are granted there
    // What is stored of the user cannot be read. Nothing is written over it: nobody would know any more what the user
    // has consented to.
    kDamaged,
  };
  std::vector<Outcome> outcomes;  // in the order of the changes
  int64_t number = 0;             // of the last change, now or before, see AwaitAgents; 0: nothing was ever known
  uint64_t opening = 0;           // Registry::openings of the connection that was asked
};

// Of one call, too.
inline constexpr size_t kMostConsentRecords = 256;

// What a record of a topic says of a user.
struct ConsentRecord {
  std::string user;
  int32_t partition = 0;
  std::vector<users::Consent> consents;    // all that the user gives, by purpose; none: nothing or nobody knows
  absl::Time time = absl::InfinitePast();  // the record's
  // By the clock of the agent that has read it, it was written after that.
  absl::Time notBefore = absl::InfinitePast();
};

// A topic that this agent follows, as LeadSource tells.
struct LedSource {
  Registry::Source source;
  uint64_t opening = 0;  // Registry::openings of the connection that was asked
};

// The state of a topic that a command wants read anew.
inline constexpr std::string_view kReadAnew = "read anew";

// What became of records of a topic.
struct FollowedRecords {
  bool isDone = false;   // if not, nothing was written: this agent does not follow any more, or not from there
  size_t erased = 0;     // records of users who were erased: they change nothing
  size_t scattered = 0;  // records of users with records in several partitions
  // Records of users of whom this agent cannot read what is stored: they change nothing. If isDone is not true,
  // FollowSource was not told that it may leave them out.
  size_t damaged = 0;
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
