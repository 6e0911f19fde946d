// What a fetch of keys asks for, and what it found.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "crypto/key_id.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

using SteadyTime = std::chrono::steady_clock::time_point;

// A fetch asks for no more keys than this at once: the service works on one fetch at a time, and all others wait for
// it. Making a new user's key takes about 25 us, so this is about 6 ms.
inline constexpr size_t kMostKeysOfAFetch = 256;

// What a fetch asks for.
struct Misses {
  std::vector<OwnedScopeName> scopes;  // found or made
  std::vector<KeyRef> ids;             // found
  bool empty() const { return scopes.empty() && ids.empty(); }
  size_t size() const { return scopes.size() + ids.size(); }
  // Takes the last `count` of them out, or all, and keeps their order.
  Misses Take(size_t count);
  // Where keys are under KEKs, the first of each; and all that are under none.
  Misses OnePerKek() const;
};

// What a fetch found. Made by KeyService, taken by KeyCache::Deliver; nobody else looks inside.
struct FetchResult {
  struct ByScope {
    OwnedScopeName name;
    ScopeKey key;
  };
  enum class IdState {
    kReady,
    kErased,
    kUnknown,
    kDamaged,  // the registry has it, but its row does not give the key any more
  };
  struct ById {
    crypto::KeyId id;
    IdState state = IdState::kUnknown;
    ScopeKey key;                      // kReady only
    std::optional<crypto::KeyId> kek;  // that was asked for with it
  };
  absl::Status status;  // kUnavailable: some or all could not be had now; what could is below
  absl::Status damage;  // what is wrong with a row that was asked for, for health()
  absl::Status limit;   // why keys of new users were not made, for health()
  std::vector<ByScope> scopes;
  std::vector<ById> ids;
  uint64_t generation = 0;  // of the revocations, when the registry was read
  SteadyTime unwrapped;     // not later than the first unwrap
};

}  // namespace kveil::keys
