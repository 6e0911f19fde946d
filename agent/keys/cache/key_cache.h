// A worker thread's own unwrapped keys: no lock and no allocation to find one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/expiring_map.h"
#include "crypto/key_id.h"
#include "keys/scope/scope.h"
#include "keys/service/key_service.h"

namespace kveil::keys {

inline constexpr size_t kKeyCacheCapacity = 100'000;

// One per worker thread, used on that thread only. For each batch:
//
//   cache.Refresh();                        // drops what was erased or is too old
//   ... FindForSealing / FindById for every record, collecting what is missing ...
//   FetchResult result = co_await ...       // cache.Fetch(misses, workload, callback), bounded in time
//   absl::Status status = cache.Deliver(std::move(result));
//   ... Find again: now ready, or erased in between, then fetch once more
//
// Pointers stay valid until the next Refresh or Deliver: do not keep one across a suspension.
class KeyCache {
 public:
  // Beyond `capacity` keys, the oldest are dropped. Keys that were used within `inUse` stay, up to four times that
  // number: `inUse` is how long a batch waits for the rest of its keys, and it needs all of them at once.
  explicit KeyCache(KeyService& service, std::chrono::milliseconds inUse = std::chrono::seconds(5),
                    size_t capacity = kKeyCacheCapacity);

  // Takes in revocations and the time. Costs one atomic read when nothing happened. It wipes keys that are erased or
  // too old, and what deriving with them left behind, so an idle worker calls it too: four times a second is enough.
  void Refresh();

  // The key to seal with; nullptr when not cached, or older than cacheTtl.
  const ScopeKey* FindForSealing(const ScopeName& name);

  enum class State {
    kReady,
    kErased,     // destroyed for good
    kUnknown,    // not in the registry; remembered for one second
    kDamaged,    // in the registry, but its row is damaged; remembered for one second
    kNotCached,  // fetch it
  };
  struct Found {
    State state = State::kNotCached;
    const ScopeKey* key = nullptr;  // kReady only
  };
  // By the unmasked id.
  Found FindById(const crypto::KeyId& id);

  using Misses = keys::Misses;
  // `done` is called once, on the service's thread: bring the result back to this thread, to Deliver. `workload` is who
  // asks.
  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done);
  // Puts the result into the cache, without keys that were erased meanwhile. kUnavailable when some of what was asked
  // for cannot be had now; the rest is in the cache.
  absl::Status Deliver(FetchResult result);

  // This worker's mask of key ids.
  crypto::KeyIdMask& mask() { return mask_; }

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    State state = State::kReady;  // or kErased
    ScopeKey key;                 // key.id also when not kReady
    OwnedScopeName name;          // when found by scope
    bool hasName = false;
    SteadyTime expires;
    SteadyTime lastUsed;
  };
  using Entries = std::list<Entry>;  // oldest first; addresses are stable

  void RefreshTime();
  void TakeRevocations();
  void Insert(Entry entry);
  void Remove(Entries::iterator entry);
  void MarkErased(const crypto::KeyId& id);
  void Clear();
  void DropExpired();
  void DropBeyondCapacity();

  KeyService& service_;
  const std::chrono::milliseconds inUse_;
  const size_t capacity_;
  crypto::KeyIdMask mask_;
  Entries entries_;
  absl::flat_hash_map<ScopeName, Entries::iterator> byName_;  // views of the entry's own name
  absl::flat_hash_map<crypto::KeyId, Entries::iterator> byId_;
  // kUnknown and kDamaged. Made-up ids in records drive no key out of the cache, and each is asked for at most once per
  // second.
  ExpiringMap<crypto::KeyId, State> notThere_;
  uint64_t generation_ = 0;
  SteadyTime now_;
  SteadyTime hmacKeyForgotten_;
};

}  // namespace kveil::keys
