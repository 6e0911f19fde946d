// Stage 2: whose record it is, and whether there is a key for it. Attributes of users belong here.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/bytes.h"
#include "crypto/envelope.h"
#include "guard/stages/owner.h"
#include "guard/stages/validate.h"
#include "guard/worker/needs.h"
#include "guard/worker/problem.h"
#include "guard/worker/user_finder.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/record.h"
#include "keys/cache/key_cache.h"
#include "policy/policy.h"

namespace kveil::guard {

// The owner of a record to be sealed: the cluster, the topic, or the user that the rule finds in the record.
class IdentifyProduced {
 public:
  // All that is passed outlives it. `salt` is the batch's.
  IdentifyProduced(const policy::SealRule& rule, std::string_view cluster, std::string_view topicName,
                   const crypto::Salt& salt, WorkerScratch& scratch, Needs& needs);

  // The record is valid. `owner` lives until the next call.
  std::optional<Problem> Of(const kafka::RecordView& record, const Owner*& owner);

  size_t keysUsed() const { return owners_.keysSet(); }

 private:
  const Owner* OwnerNamed(const keys::ScopeName& name);

  const policy::SealRule& rule_;
  const keys::ScopeName shared_;  // of the one key, where the scope is not the user
  const crypto::Salt& salt_;
  WorkerScratch& scratch_;
  Needs& needs_;
  BatchOwners<const keys::ScopeKey*> owners_;
  absl::flat_hash_set<std::string> noted_;  // subjects that are in needs_
};

// Whether records of more than `limit` different users are to be sealed, out of `records`, which are `count`.
bool HasMoreUsersThan(size_t limit, const policy::SealRule& rule, Bytes records, int32_t count, UserFinder& finder);

// The owner of a fetched record: whoever has the key that its envelope names. The AEAD tag of the record vouches for
// it; the content of the record does not matter.
class IdentifyFetched {
 public:
  // All that is passed outlives it. `keysLimit`: different keys that a pass may need.
  IdentifyFetched(size_t keysLimit, WorkerScratch& scratch, Needs& needs);

  // The record is valid, and `envelope` is its own. `owner` lives until the next call.
  std::optional<Problem> Of(const Envelope& envelope, const Owner*& owner) {
    owner = &kNoOwner;
    if (!envelope.isThere) return std::nullopt;
    const KeyName name{envelope.keyId, envelope.salt, envelope.isMasked};
    owner = owners_.Find(name);
    if (owner != nullptr) return std::nullopt;
    return FindKey(name, envelope.suite, owner);
  }

  size_t keysUsed() const { return owners_.keysSet(); }

 private:
  // What names the key: the id as it travels, and the salt it is masked with.
  struct KeyName {
    crypto::KeyId id;
    crypto::Salt salt;
    bool isMasked = false;

    friend bool operator==(const KeyName&, const KeyName&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const KeyName& name) {
      return H::combine(std::move(state), name.id, name.salt, name.isMasked);
    }
  };

  std::optional<Problem> FindKey(const KeyName& name, crypto::Suite suite, const Owner*& owner);

  const size_t keysLimit_;
  WorkerScratch& scratch_;
  Needs& needs_;
  BatchOwners<KeyName> owners_;
  absl::flat_hash_set<crypto::KeyId> noted_;  // unmasked ids that are in needs_
};

}  // namespace kveil::guard
