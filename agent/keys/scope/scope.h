// What a scope key is for: the whole cluster, a topic, or a user in a keyspace.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "crypto/key_id.h"
#include "crypto/secret.h"
#include "users/user_facts.h"

namespace kveil::keys {

// The numbers are in the registry.
enum class Scope : uint8_t { kCluster = 1, kTopic = 2, kUser = 3 };

// kUser: keyspace and user id. kTopic: the cluster's name and the topic's. kCluster: nothing and the cluster's name.
// The same three parts name the same key.
struct ScopeName {
  Scope scope = Scope::kUser;
  std::string_view keyspace;
  std::string_view subject;

  friend bool operator==(const ScopeName&, const ScopeName&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const ScopeName& name) {
    return H::combine(std::move(state), name.scope, ToAbsl(name.keyspace), ToAbsl(name.subject));
  }
};

struct OwnedScopeName {
  OwnedScopeName() = default;
  OwnedScopeName(Scope scope, std::string keyspace, std::string subject)
      : scope(scope), keyspace(std::move(keyspace)), subject(std::move(subject)) {}
  explicit OwnedScopeName(const ScopeName& name) : scope(name.scope), keyspace(name.keyspace), subject(name.subject) {}

  ScopeName view() const { return {scope, keyspace, subject}; }

  Scope scope = Scope::kUser;
  std::string keyspace;
  std::string subject;
};

struct ScopeKey {
  crypto::SecretKey key;
  crypto::KeyId id;  // unmasked
  Scope scope = Scope::kUser;
  // The subject was erased before: a throw-away key for a late record. Its id is registered as
  // erased and the key is kept nowhere, so no reader can open what it seals, and none takes it for unknown.
  bool erasedSubject = false;
  users::SharedFacts facts;  // kUser: what was known of the user when the key was looked up
};

}  // namespace kveil::keys
