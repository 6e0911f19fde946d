// A worker thread's own unwrapped keys: no lock and no allocation to find one.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/expiring_map.h"
#include "crypto/aead.h"
#include "crypto/key_id.h"
#include "keys/cache/cached_key.h"
#include "keys/cache/expanded_keys.h"
#include "keys/cache/key_slab.h"
#include "keys/cache/key_table.h"
#include "keys/scope/scope.h"
#include "keys/service/key_service.h"
#include "keys/service/revocations.h"
#include "users/user_facts.h"

namespace kveil::keys {

inline constexpr size_t kKeyCacheCapacity = 100'000;

// One per worker thread, used on that thread only. For each batch:
//
//   cache.Refresh();                        // drops what was erased or is too old
//   ... FindForSealing / FindById for every record, collecting what is missing ...
//   FetchResult result = co_await ...       // cache.Fetch(misses, workload, callback), bounded in time
//   absl::Status status = cache.Deliver(std::move(result));
//   ... Find again: now ready, or erased or changed in between, then fetch once more
//
// Pointers stay valid until the next Refresh or Deliver: do not keep one across a suspension.
class KeyCache {
 public:
  // Beyond `capacity` keys, the oldest are dropped. Keys that were used within `inUse` stay, up to four times that
  // number: `inUse` is how long a batch waits for the rest of its keys, and it needs all of them at once.
  explicit KeyCache(KeySource& source, std::chrono::milliseconds inUse = std::chrono::seconds(5),
                    size_t capacity = kKeyCacheCapacity);

  // Takes in revocations and the time. Costs one atomic read when nothing happened. It wipes keys that are erased or
  // too old, and what they were expanded to, so an idle worker calls it too: four times a second is enough.
  void Refresh();

  // The key to seal with; nullptr when not cached, or older than cacheTtl.
  CachedKey* FindForSealing(const ScopeName& name) { return FindForSealing(name, TagOf(name), kNowhere); }

  // The same for many keys, in three steps, each for all of them: PrefetchTable, PrefetchKey, FindForSealing. The
  // second returns a guess at where the key is, which the third takes.
  static uint32_t TagOf(const ScopeName& name) { return TagOf(SeedOf(name.scope, name.keyspace), name.subject); }
  static uint64_t SeedOf(Scope scope, std::string_view keyspace);
  static uint32_t TagOf(uint64_t seed, std::string_view subject);
  void PrefetchTable(uint32_t tag) const { byName_.Prefetch(tag); }
  uint32_t PrefetchKey(uint32_t tag) const { return PrefetchAt(byName_.Guess(tag)); }
  CachedKey* FindForSealing(const ScopeName& name, uint32_t tag, uint32_t guess);

  enum class State {
    kReady,
    kErased,     // destroyed for good
    kUnknown,    // not in the registry; remembered for one second
    kDamaged,    // in the registry, but its row is damaged; remembered for one second
    kNotCached,  // fetch it
  };
  struct Found {
    State state = State::kNotCached;
    CachedKey* key = nullptr;  // kReady only
  };
  // By what a record says of it. With the same three steps for many.
  void PrefetchTable(const KeyRef& ref) const { byId_.Prefetch(TagOf(ref)); }
  uint32_t PrefetchKey(const KeyRef& ref) const { return PrefetchAt(byId_.Guess(TagOf(ref))); }
  Found FindById(const KeyRef& ref, uint32_t guess = kNowhere);

  // What was known of the user when the key was looked up; nullptr: nothing, which also goes for keys of no user. Ask
  // users::IsDamaged: then it is not known what is known. Valid as long as the pointer to the key. The keys of this
  // cache whose facts are at one address have the same facts. (Those at two addresses may be the same all the same.) So
  // a decision about facts may be remembered by their address until the next Refresh or Deliver, after which other
  // facts may be at that address.
  const users::UserFacts* FactsOf(const CachedKey& key) const { return key.facts; }

  // A pass over a batch begins: counts the keys that it uses.
  void BeginPass() {
    ++pass_;
    keysUsed_ = 0;
  }
  // It ends: wipes the keys that were of this batch alone.
  void EndPass() { expanded_.ForgetBatchKeys(); }
  size_t keysUsed() const { return keysUsed_; }

  // The suite of the user's next record, which is counted: under one period key a worker seals no more than
  // kMostUnderAPeriodKey records in as long as a period.
  crypto::Suite TakeSuite(CachedKey& key) {
    if (key.window != window_) {
      key.window = window_;
      key.sealed = 0;
    }
    if (key.sealed >= kMostUnderAPeriodKey) return crypto::Suite::kBatchKey;
    ++key.sealed;
    return crypto::Suite::kPeriodKey;
  }

  // Where `ciphers` has the key for a record under this one. Valid until the next call.
  size_t Expanded(CachedKey& key, crypto::Suite suite, crypto::Period period, const crypto::Salt& salt) {
    return expanded_.Of(key, slab_.IndexOf(key), suite, period, salt);
  }
  // The two steps before it, where many keys are gone through (expanded_keys.h).
  void PrefetchPlace(const CachedKey& key) const { expanded_.PrefetchPlace(key); }
  void PrefetchExpanded(const CachedKey& key, size_t size) const { expanded_.Prefetch(key, size); }
  crypto::GcmKeys& ciphers() { return expanded_.keys(); }

  // By the clock on the wall, for what is sealed now.
  crypto::Period CurrentPeriod() const;

  using Misses = keys::Misses;
  // `done` is called once, on the service's thread: bring the result back to this thread, to Deliver. `workload` is who
  // asks.
  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done);
  // Puts the result into the cache, without keys that were erased meanwhile. kUnavailable when some of what was asked
  // for cannot be had now; the rest is in the cache.
  absl::Status Deliver(FetchResult result);

  // This worker's mask of key ids.
  crypto::KeyIdMask& mask() { return mask_; }

  size_t size() const { return slab_.size(); }
  // How often it was emptied because the registry may be another: users may have other keys now than before.
  uint64_t timesCleared() const { return timesCleared_; }

  // NIST SP 800-38D allows 2^32 records under one key. Two such windows of time reach into one period, and of a key
  // that is dropped and loaded again up to 2^23 more in a window are not counted: 64 workers stay below.
  static constexpr uint32_t kMostUnderAPeriodKey = 1 << 24;

 private:
  static constexpr uint32_t kMostUncounted = 1 << 23;
  static constexpr size_t kMostCounted = 1 << 16;

  static uint32_t TagOf(const crypto::KeyId& id) {
    uint32_t tag;
    std::memcpy(&tag, id.bytes.data(), sizeof(tag));
    return tag;
  }
  static uint32_t TagOf(const KeyRef& ref) {
    return ref.kek.has_value() ? TagOf(ref.id) ^ TagOf(*ref.kek) : TagOf(ref.id);
  }
  static KeyRef RefOf(const CachedKey& key) { return key.kek == nullptr ? key.id : KeyRef(key.id, key.kek->id); }
  static bool IsOf(const CachedKey& key, const KeyRef& ref) {
    if (!(key.id == ref.id)) return false;
    return key.kek == nullptr ? !ref.kek.has_value() : ref.kek.has_value() && key.kek->id == *ref.kek;
  }
  uint32_t IndexOf(const KeyRef& ref, uint32_t guess = kNowhere) const {
    if (guess != kNowhere && IsOf(slab_[guess], ref)) return guess;
    return byId_.Find(TagOf(ref), [&](uint32_t index) { return IsOf(slab_[index], ref); });
  }
  bool IsTooOld(const CachedKey& key) const {
    return key.expires <= now_ || (key.kek != nullptr && key.kek->expires <= now_);
  }
  bool IsErased(const crypto::KeyId& id) const {
    const uint32_t index = IndexOf(id);
    return index != kNowhere && slab_[index].isErased && !IsTooOld(slab_[index]);
  }
  uint32_t IndexOf(const ScopeName& name, uint32_t tag, uint32_t guess = kNowhere) const {
    if (guess != kNowhere && slab_[guess].IsNamed(name)) return guess;
    return byName_.Find(tag, [&](uint32_t index) { return slab_[index].IsNamed(name); });
  }
  uint32_t PrefetchAt(uint32_t index) const {
    if (index == kNowhere) return index;
    const auto* const bytes = reinterpret_cast<const uint8_t*>(&slab_[index]);
    for (int line = 0; line < 2; ++line) __builtin_prefetch(bytes + 64 * line);
    return index;
  }
  void NoteUse(CachedKey& key) {
    if (key.lastPass == pass_) return;
    key.lastPass = pass_;
    key.lastUsed = now_;
    ++keysUsed_;
  }

  void RefreshTime();
  void TakeRevocations();
  // `name`: where it was found by that. No key: it is erased.
  void Insert(ScopeKey key, bool isErased, const ScopeName* name, SteadyTime expires);
  void Remove(uint32_t index);
  // Removes all keys of the id under KEKs. Returns whether there were any.
  bool RemoveUnderKeks(const crypto::KeyId& id);
  // The KEK key of a key with that name, which is added now.
  CachedKek* HoldKek(const KekUse& use, const ScopeName* name);
  // Those under it count for as long as that, too.
  void RenewKek(const KekUse& use);
  void TakeName(CachedKey& key);
  void HoldFacts(CachedKey& key, users::SharedFacts facts);
  void MarkErased(const crypto::KeyId& id);
  void Clear();
  void DropExpired();
  void DropBeyondCapacity();
  void NoteCount(const CachedKey& key);
  void RestoreCount(CachedKey& key) const;

  KeySource& source_;
  const KeyServiceOptions& options_;
  const Revocations& revocations_;
  const std::chrono::milliseconds inUse_;
  const size_t capacity_;
  // Who sealed as many before the key was dropped goes on counting. A key is dropped every cacheTtl at least, so that
  // those who sealed less add up to kMostUncounted in a window at most.
  const uint32_t manySealed_;
  crypto::KeyIdMask mask_;
  KeySlab slab_;
  KeyTable byName_;
  KeyTable byId_;
  KeyTable underKeks_;  // the keys under KEKs, by the tag of the id alone: those of a user are dropped together
  ExpandedKeys expanded_;
  std::vector<users::SharedFacts> facts_;  // of the keys that have some, by index; not longer than needed
  // kUnknown and kDamaged. Made-up ids in records drive no key out of the cache, and each is asked for at most once per
  // second.
  ExpiringMap<KeyRef, State> notThere_;
  absl::flat_hash_map<KeyRef, uint32_t> counted_;                        // in window_
  absl::flat_hash_map<crypto::KeyId, std::unique_ptr<CachedKek>> keks_;  // that keys are under
  Revocations::Follower follower_;
  uint64_t timesCleared_ = 0;
  SteadyTime now_;
  uint16_t window_ = 0;
  uint32_t pass_ = 0;
  size_t keysUsed_ = 0;
};

}  // namespace kveil::keys
