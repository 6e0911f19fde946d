// What an erasure reports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "keys/registry/registry.h"

namespace kveil::keys {

struct EraseResult {
  absl::Time erasedAt;
  size_t keyCount = 0;                 // keys destroyed by this call
  std::vector<std::string> keyspaces;  // where they were
  // No copy of the wrapped keys is left in the registry's own files. False when another process stood in the way: the
  // service goes on trying, and health() says so until it is done.
  bool filesClean = false;
  int64_t number = 0;  // of the erasure, see AwaitAgents
};

// A user in a keyspace.
struct NamedSubject {
  std::string name;   // of the keyspace
  Subject subject{};  // what stands for the user in the registry
};

// What became of one of many users.
struct ErasedUser {
  using Keyspace = NamedSubject;
  struct Earlier {
    Keyspace keyspace;
    absl::Time time;
  };
  size_t keyCount = 0;                     // keys destroyed by this call
  std::vector<Keyspace> keyspaces;         // where they were, or the user was known without a key
  std::vector<Earlier> earlier;            // where the user was erased before
  std::optional<absl::Time> erasedBefore;  // the first time; with no key destroyed now, there was none left
  int64_t number = 0;                      // of the last erasure, by this call or before; 0: the user has no key
};
struct ErasedUsers {
  absl::Time erasedAt;
  std::vector<ErasedUser> users;  // in the order in which they were given
  bool filesClean = false;        // as above
  int64_t number = 0;             // the highest of the users'
  uint64_t opening = 0;           // Registry::openings of the connection that was asked
};

// An erasure that somebody knows of from elsewhere, as from a receipt.
struct ToldErasure {
  Subject subject{};
  int64_t number = 0;  // of it, or of the last one of the same command
};

// A user whose erasure has ended.
struct ReadmittedUser {
  absl::Time time;
  std::vector<ErasedUser::Earlier> keyspaces;  // in which it has, and when the user was erased there
  std::vector<std::string> underWay;           // in which it has not, as some agent has not confirmed the erasure yet
};

// OK when the user was erased; kAlreadyExists, see ErasedBefore; kNotFound: the user has no key, and is not known.
absl::Status StatusOf(const ErasedUser& user);

// kAlreadyExists, and says when.
absl::Status ErasedBeforeError(absl::Time time);
// When the user was erased, out of the kAlreadyExists status of an erasure.
std::optional<absl::Time> ErasedBefore(const absl::Status& status);

}  // namespace kveil::keys
