// What a receipt says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kveil::receipts {

// Times are texts, RFC 3339, UTC.
struct Receipt {
  enum class Kind {
    kErasure,        // of the users that it lists. Written at once, before the agents are heard
    kConfirmation,   // of all erasures up to one: what the agents have said
    kIrrecoverable,  // of all erasures up to one: the root key of this node opens no copy of the registry that undoes
                     // one
    kGivenUp,        // of a key that its row did not give any more. Nobody was erased
    kReadmission,    // of the user that it lists, whose erasures have ended
  };
  struct Keyspace {
    std::string name;
    std::string pseudonym;  // the registry's, in hexadecimal digits
    // When: of an erasure, if no key was left to destroy; of a readmission, always.
    std::optional<std::string> erasedBefore;
  };
  struct User {
    std::vector<Keyspace> keyspaces;
    uint64_t keys = 0;  // that were destroyed
  };
  struct Agent {
    std::string name;
    std::optional<std::string> confirmed;    // when it was known to have dropped the keys
    std::optional<std::string> refusesFrom;  // otherwise: from when on it refuses them at the latest
  };
  struct Spread {
    bool complete = false;
    std::vector<Agent> agents;
    std::optional<std::string> error;
  };

  struct Ended {
    int64_t epoch = 0;  // all before it are destroyed
    std::string destroyed;
    std::string rootKey;
  };
  struct Key {
    std::string id;  // in hexadecimal digits
    std::string scope;
    int64_t epoch = 0;
  };

  Kind kind = Kind::kErasure;
  std::string registry;  // its id, in hexadecimal digits
  std::string agent;     // that was asked
  uint32_t uid = 0;      // who asked
  std::optional<std::string> reason;
  std::string time;
  int64_t erasure = 0;  // the number of the last erasure that it is about
  std::vector<User> users;
  std::optional<Spread> spread;
  std::optional<Ended> ended;
  std::optional<Key> key;
};

// The bytes that are signed: JSON, several lines. `previous` is the SHA-256 of those of the receipt before, in
// hexadecimal digits; empty for the first.
std::string TextOf(const Receipt& receipt, uint64_t number, const std::string& previous);

// The erasures of a registry up to which a receipt says that they are irrecoverable. nullopt: it does not.
std::optional<int64_t> IrrecoverableUpTo(const std::string& text, const std::string& registry);

// What binds a receipt to its place.
struct Place {
  uint64_t number = 0;
  std::string previous;
};
// kInvalidArgument: this is not a receipt.
absl::StatusOr<Place> PlaceOf(const std::string& text);

// Whom a receipt says to have been erased.
struct ErasuresTold {
  struct Subject {
    std::string keyspace;
    std::string pseudonym;
  };
  std::string registry;           // its id, in hexadecimal digits
  int64_t erasure = 0;            // the number of the last of the erasures
  std::vector<Subject> subjects;  // none in a receipt of another kind
};
// kInvalidArgument: this is not a receipt.
absl::StatusOr<ErasuresTold> ErasuresOf(const std::string& text);

}  // namespace kveil::receipts
