// Keys for late records of erased users.
#pragma once

#include <chrono>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "crypto/key_id.h"
#include "crypto/secret.h"
#include "keys/registry/registry.h"

namespace kveil::keys {

// One key per erased subject, see ScopeKey::erasedSubject. It is kept for a while, so that a user who was erased costs
// the registry a row per cache life and not one per record. Not thread-safe.
class ThrowAwayKeys {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Key {
    crypto::SecretKey key;
    crypto::KeyId id;
    Time expires;
  };

  explicit ThrowAwayKeys(std::chrono::milliseconds lifetime) : lifetime_(lifetime) {}

  void Put(const Subject& subject, crypto::SecretKey key, const crypto::KeyId& id, Time now) {
    keys_.insert_or_assign(subject, Key{std::move(key), id, now + lifetime_});
  }

  // nullptr when there is none, or it is too old.
  const Key* Find(const Subject& subject, Time now) const {
    const auto found = keys_.find(subject);
    return found == keys_.end() || found->second.expires <= now ? nullptr : &found->second;
  }

  void Clear() { keys_.clear(); }
  // Wipes all that are too old.
  void DropExpired(Time now) {
    absl::erase_if(keys_, [now](const auto& entry) { return entry.second.expires <= now; });
  }

 private:
  const std::chrono::milliseconds lifetime_;
  // Each has cost its workload one new user of NewUserLimit, which bounds them.
  absl::flat_hash_map<Subject, Key> keys_;
};

}  // namespace kveil::keys
