// A worker thread's own unwrapped keys: no lock and no allocation to find one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "crypto/key_id.h"
#include "keys/key_service.h"
#include "keys/scope.h"

namespace kveil::keys {

// One a worker thread, used on that thread only. For each batch:
//
//   cache.Refresh();                        // drops what was erased or is too old
//   ... FindForSealing / FindById for every record, collecting what is missing ...
//   FetchResult result = co_await ...       // cache.Fetch(misses, callback), bounded in time
//   absl::Status status = cache.Deliver(std::move(result));
//   ... Find again: now ready, or erased in between, then fetch once more
//
// Pointers stay valid until the next Refresh or Deliver: do not keep one across a suspension.
class KeyCache {
 public:
  // Beyond `capacity` keys the oldest go, except that keys used in the last seconds stay up to four times that number,
  // so that a frame with more users than the capacity can still be worked on.
  explicit KeyCache(KeyService& service, size_t capacity = 100'000);

  // Takes in revocations and the time. One atomic read when nothing happened. An idle worker calls it at least once
  // every cacheTtl, so that keys that are too old leave memory.
  void Refresh();

  // The key to seal with; nullptr when not cached, or older than cacheTtl.
  const ScopeKey* FindForSealing(const ScopeName& name);

  enum class State {
    kReady,
    kErased,     // destroyed for good
    kUnknown,    // the registry has never heard of it; remembered for a second only
    kNotCached,  // fetch it
  };
  struct Found {
    State state = State::kNotCached;
    const ScopeKey* key = nullptr;  // kReady only
  };
  // By the unmasked id.
  Found FindById(const crypto::KeyId& id);

  using Misses = keys::Misses;
  // `done` is called once on the service's thread; bring the result back here, to Deliver.
  void Fetch(Misses misses, absl::AnyInvocable<void(FetchResult)> done);
  // Keys that were erased while the result was on its way are left out. kUnavailable when some of what was asked could
  // not be had now; the rest is in the cache.
  absl::Status Deliver(FetchResult result);

  // This worker's mask of key ids.
  crypto::KeyIdMask& mask() { return mask_; }

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    State state = State::kReady;
    ScopeKey key;         // key.id also when not kReady
    OwnedScopeName name;  // when found by scope
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
  const size_t capacity_;
  crypto::KeyIdMask mask_;
  Entries entries_;
  absl::flat_hash_map<ScopeName, Entries::iterator> byName_;  // views of the entry's own name
  absl::flat_hash_map<crypto::KeyId, Entries::iterator> byId_;
  uint64_t generation_ = 0;
  SteadyTime now_;
};

}  // namespace kveil::keys
