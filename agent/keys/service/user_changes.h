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
// A record may be dated no further ahead: no clock is wrong by so much, but programs are, that write microseconds for
// milliseconds. Whoever reads such a record gives it no consents.
inline constexpr absl::Duration kFurthestAhead = absl::Hours(24);

// A topic that this agent follows, as LeadSource tells.
struct LedSource {
  Registry::Source source;
  uint64_t opening = 0;  // Registry::openings of the connection that was asked
};

// The state of a topic that a command wants read anew.
inline constexpr std::string_view kReadAnew = "read anew";

// What a command that wants a topic read anew has found.
struct RereadAsked {
  std::string follower;     // the agent that follows, or was the last one that did
  bool isFollowed = false;  // it has read the topic to its end a moment ago; if not, perhaps nobody follows
};

// What an agent knows of a topic that consents come from.
struct SourceState {
  std::string keyspace;
  bool isWanted = false;  // somebody wanted to read by its consents here, not long ago
  bool isStale = true;    // none of its consents counts, as withdrawals may be missing
};

// What became of records of a topic.
struct FollowedRecords {
  bool isDone = false;   // if not, nothing was written: this agent does not follow any more, or not from there
  size_t erased = 0;     // records of users who were erased: they change nothing
  size_t scattered = 0;  // records of users with records in several partitions
  // Consents that were not granted, as a command has withdrawn them, though the record's time is later than the
  // command: the producer's clock is ahead, and nobody knows which came first.
  size_t held = 0;
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
