// What a scope key is for: the whole cluster, a topic, or a user in a keyspace.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>
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
// "cluster", "topic" or "user", as policies have it.
std::string_view NameOf(Scope scope);

// kUser: keyspace and user id. kTopic: the cluster's name and the topic's. kCluster: nothing and the cluster's name.
// Where a key is under a KEK, the keyspace names that, too (KeyspaceUnder), so that under another KEK it is another
// key. The same three parts name the same key.
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
  // kUser: where the user was erased, and every agent has confirmed it, the erasure ends, and a key is made that is
  // kept. Not part of the name.
  bool readmits = false;
};

// A key-encryption key (KEK) that scope keys are under, besides the registry's root key: those of topics and clusters
// are made under it; a user's key stays what it is, and is sealed with after a KEK key was mixed in
// (crypto::KeyUnderKek).
struct KekName {
  std::string provider;  // as the configuration names it
  std::string key;       // as the provider does

  std::string Text() const { return provider + "/" + key; }
  friend auto operator<=>(const KekName&, const KekName&) = default;
};

// The keyspace of a name whose key is made under the KEK. No name of a cluster or a provider has a zero in it.
std::string KeyspaceUnder(std::string_view keyspace, const KekName& kek);
// nullopt: none.
std::optional<KekName> KekOf(const ScopeName& name);
// Whose row in the registry has the key. A user has one per keyspace, whatever KEKs his records are under.
ScopeName NameOfRow(const ScopeName& name);

// What a sealed record says of its key.
struct KeyRef {
  KeyRef() = default;
  KeyRef(const crypto::KeyId& id) : id(id) {}
  KeyRef(const crypto::KeyId& id, const std::optional<crypto::KeyId>& kek) : id(id), kek(kek) {}

  crypto::KeyId id;                  // of the scope key, unmasked
  std::optional<crypto::KeyId> kek;  // of the KEK key that was mixed into it

  friend bool operator==(const KeyRef&, const KeyRef&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const KeyRef& ref) {
    state = H::combine(std::move(state), ref.id);
    return ref.kek.has_value() ? H::combine(std::move(state), *ref.kek) : std::move(state);
  }
};

// The KEK key that was mixed into a scope key.
struct KekUse {
  crypto::KeyId id;
  std::chrono::steady_clock::time_point asked;  // not later than its provider was asked
};

struct ScopeKey {
  crypto::SecretKey key;
  crypto::KeyId id;  // unmasked
  Scope scope = Scope::kUser;
  // The subject was erased before: a throw-away key for a late record. Its id is registered as
  // erased and the key is kept nowhere, so no reader can open what it seals, and none takes it for unknown.
  bool erasedSubject = false;
  users::SharedFacts facts;                  // kUser: what was known of the user when the key was looked up
  std::optional<KekUse> kek = std::nullopt;  // then `key` is not the one that `id` is of
};

}  // namespace kveil::keys
