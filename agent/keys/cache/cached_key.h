// A key in a worker's cache: what finds it lies in the first of its three cache lines, what derives from it in the
// last.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "base/short_runs.h"
#include "crypto/key_id.h"
#include "crypto/secret.h"
#include "keys/scope/scope.h"
#include "keys/service/fetch.h"
#include "users/user_facts.h"

namespace kveil::keys {

inline constexpr uint32_t kNowhere = std::numeric_limits<uint32_t>::max();

// A KEK key that was mixed into some of a cache's keys. Itself it is not here: the service mixes.
struct CachedKek {
  crypto::KeyId id;
  // The end of what is under it, unless it is heard before that the KEK was there later: so a KEK that is denied opens
  // nothing any more after cacheTtl, and one that is there costs no key of a user another look at the registry.
  SteadyTime expires;
  std::string name;  // what follows the keyspace in the name of a key under it (KeyspaceUnder); empty: not known
  size_t keys = 0;   // that it was mixed into
};

struct alignas(64) CachedKey {
  CachedKey() = default;
  CachedKey(const CachedKey&) = delete;
  CachedKey& operator=(const CachedKey&) = delete;
  ~CachedKey() { ForgetName(); }

  bool IsNamed(const ScopeName& other) const {
    if (!hasName || other.scope != scope) return false;
    if (other.subject.size() != subjectSize) return false;
    if (kek == nullptr ? other.keyspace.size() != keyspaceSize : !HasKeyspaceUnderKek(other.keyspace)) return false;
    const char* const bytes = NameBytes();
    return AreSameRuns(bytes, other.keyspace.data(), keyspaceSize) &&
           AreSameRuns(bytes + keyspaceSize, other.subject.data(), subjectSize);
  }
  // Without the KEK.
  ScopeName Name() const { return {scope, {NameBytes(), keyspaceSize}, {NameBytes() + keyspaceSize, subjectSize}}; }
  // The key's scope becomes the name's. Of a key under a KEK, `kek` has that part of the name for all of them.
  void SetName(ScopeName given) {
    ForgetName();
    if (kek != nullptr) given.keyspace.remove_suffix(kek->name.size());
    scope = given.scope;
    keyspaceSize = static_cast<uint16_t>(given.keyspace.size());
    subjectSize = static_cast<uint16_t>(given.subject.size());
    char* bytes = name.data();
    if (HasLongName()) {
      bytes = new char[NameSize()];
      std::memcpy(name.data(), &bytes, sizeof(bytes));
    }
    if (keyspaceSize > 0) std::memcpy(bytes, given.keyspace.data(), keyspaceSize);
    if (subjectSize > 0) std::memcpy(bytes + keyspaceSize, given.subject.data(), subjectSize);
    hasName = true;
  }
  void ForgetName() {
    if (hasName && HasLongName()) delete[] NameBytes();
    hasName = false;
  }

  crypto::KeyId id;  // unmasked
  SteadyTime expires;
  SteadyTime lastUsed;
  const users::UserFacts* facts = nullptr;  // which the cache holds
  uint32_t place = kNowhere;                // where it was expanded last; another key may be there now
  uint32_t lastPass = 0;                    // that used it
  uint32_t sealed = 0;                      // records under period keys, in `window`
  uint16_t window = 0;                      // of steady time, as long as a period
  crypto::Period period = 0;                // of periodKey
  uint16_t keyspaceSize = 0;                // names come from policies and user ids, which are a kilobyte at most
  uint16_t subjectSize = 0;
  Scope scope = Scope::kUser;
  bool isErased = false;
  bool erasedSubject = false;  // see ScopeKey
  bool hasName = false;        // it was found by its name, and is the one to seal with
  CachedKek* kek = nullptr;    // that was mixed into it, which the cache holds
  bool hasPeriodKey = false;
  std::array<char, 47> name;  // keyspace and subject; the address of a long one
  uint32_t older = kNowhere;
  uint32_t newer = kNowhere;
  crypto::SecretKey key;
  crypto::SecretKey periodKey;

 private:
  bool HasKeyspaceUnderKek(std::string_view other) const {
    return other.size() == keyspaceSize + kek->name.size() && other.substr(keyspaceSize) == kek->name;
  }
  size_t NameSize() const { return size_t{keyspaceSize} + subjectSize; }
  bool HasLongName() const { return NameSize() > name.size(); }
  const char* NameBytes() const {
    if (!HasLongName()) return name.data();
    const char* bytes;
    std::memcpy(&bytes, name.data(), sizeof(bytes));
    return bytes;
  }
};

static_assert(sizeof(CachedKey) == 3 * 64);

}  // namespace kveil::keys
