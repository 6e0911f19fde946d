// The cache of one worker thread: a slab of keys with a list by age, and two ways to find a key in it.
#include "keys/cache/key_cache.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "base/text.h"
#include "keys/service/revocations.h"

namespace kveil::keys {
namespace {

// Long enough that a flood of records with made-up ids costs one question a second for each, short enough that a key
// made on another node a moment ago is found.
constexpr std::chrono::seconds kUnknownTtl{1};
constexpr size_t kMostNotThere = 10'000;
constexpr size_t kMaxOverCapacity = 4;
// A call removes no more keys than this, which takes a millisecond or two: keys that came together expire together.
constexpr size_t kMostRemovedByACall = 8192;
// As long as a period (crypto/key_id.h). Records are counted by the steady clock, so that a clock on the wall that
// jumps back and forth does not begin the count anew.
constexpr std::chrono::seconds kCountingWindow{1 << 14};

size_t SlabSize(size_t capacity) { return capacity * kMaxOverCapacity + kMostKeysOfAFetch; }

}  // namespace

KeyCache::KeyCache(KeySource& source, std::chrono::milliseconds inUse, size_t capacity)
    : source_(source),
      options_(source.options()),
      revocations_(source.revocations()),
      inUse_(inUse),
      capacity_(std::max<size_t>(1, capacity)),
      manySealed_(std::clamp<uint32_t>(
          static_cast<uint32_t>(kMostUncounted *
                                static_cast<uint64_t>(options_.cacheTtl / std::chrono::milliseconds(1)) /
                                static_cast<uint64_t>(kCountingWindow / std::chrono::milliseconds(1))),
          1, kMostUnderAPeriodKey)),
      mask_(source.NewMask()),
      slab_(SlabSize(capacity_)),
      expanded_(SlabSize(capacity_)),
      notThere_(kMostNotThere, kUnknownTtl),
      follower_(revocations_) {
  RefreshTime();
}

void KeyCache::RefreshTime() {
  now_ = options_.steadyNow();
  const auto window = static_cast<uint16_t>(now_.time_since_epoch() / kCountingWindow);
  if (window == window_) return;
  window_ = window;
  counted_.clear();
}

crypto::Period KeyCache::CurrentPeriod() const { return crypto::PeriodAt(absl::ToUnixSeconds(options_.wallNow())); }

uint64_t KeyCache::SeedOf(Scope scope, std::string_view keyspace) { return absl::HashOf(scope, ToAbsl(keyspace)); }

uint32_t KeyCache::TagOf(uint64_t seed, std::string_view subject) {
  const uint64_t hash = absl::HashOf(ToAbsl(subject)) ^ seed;
  return static_cast<uint32_t>(hash * uint64_t{0x9E3779B97F4A7C15} >> 32);
}

void KeyCache::Refresh() {
  RefreshTime();
  TakeRevocations();
  DropExpired();
}

void KeyCache::TakeRevocations() {
  if (revocations_.generation() == follower_.dropped()) return;
  const Revocations::Revoked revoked = revocations_.After(follower_.dropped());
  if (revoked.all) Clear();
  for (const crypto::KeyId& id : revoked.erased) MarkErased(id);
  for (const crypto::KeyId& id : revoked.changed) {
    RemoveUnderKeks(id);
    const uint32_t index = IndexOf(id);
    if (index != kNowhere && !slab_[index].isErased) Remove(index);
  }
  follower_.Dropped(revoked.generation);
}

CachedKey* KeyCache::FindForSealing(const ScopeName& name, uint32_t tag, uint32_t guess) {
  const uint32_t index = IndexOf(name, tag, guess);
  if (index == kNowhere) return nullptr;
  CachedKey& key = slab_[index];
  if (IsTooOld(key)) return nullptr;
  NoteUse(key);
  return &key;
}

KeyCache::Found KeyCache::FindById(const KeyRef& ref, uint32_t guess) {
  const uint32_t index = IndexOf(ref, guess);
  if (index == kNowhere || IsTooOld(slab_[index])) {
    if (ref.kek.has_value() && IsErased(ref.id)) return {State::kErased, nullptr};  // whatever its KEK
    const State* const state = notThere_.Find(ref, now_);
    return {state == nullptr ? State::kNotCached : *state, nullptr};
  }
  CachedKey& key = slab_[index];
  NoteUse(key);
  if (key.isErased) return {State::kErased, nullptr};
  return {State::kReady, &key};
}

void KeyCache::Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
  source_.Fetch(std::move(misses), workload, std::move(done));
}

absl::Status KeyCache::Deliver(FetchResult result) {
  Refresh();
  // Erased after they were read: they must not come back. What has changed is left out, to be asked for again.
  absl::flat_hash_set<crypto::KeyId> revoked, changed;
  if (result.generation != follower_.dropped()) {
    const Revocations::Revoked since = revocations_.After(result.generation);
    if (since.all) return result.status;
    revoked.insert(since.erased.begin(), since.erased.end());
    changed.insert(since.changed.begin(), since.changed.end());
  }
  const SteadyTime expires = result.unwrapped + options_.cacheTtl;
  for (FetchResult::ByScope& found : result.scopes) {
    if (revoked.contains(found.key.id) || changed.contains(found.key.id)) continue;
    const bool isErased = found.key.erasedSubject;
    const ScopeName name = found.name.view();
    Insert(std::move(found.key), isErased, &name, expires);
  }
  for (FetchResult::ById& found : result.ids) {
    const KeyRef ref{found.id, found.kek};
    const bool wasRevoked = revoked.contains(found.id);
    if (!wasRevoked && changed.contains(found.id)) continue;
    if (!wasRevoked && found.state == FetchResult::IdState::kUnknown) {
      notThere_.Put(ref, State::kUnknown, now_);
      continue;
    }
    if (!wasRevoked && found.state == FetchResult::IdState::kDamaged) {
      notThere_.Put(ref, State::kDamaged, now_);
      continue;
    }
    const bool isErased = found.state != FetchResult::IdState::kReady || wasRevoked;
    if (isErased) {
      RemoveUnderKeks(found.id);
      found.key = ScopeKey();
    }
    found.key.id = found.id;
    Insert(std::move(found.key), isErased, nullptr, expires);
  }
  DropBeyondCapacity();
  return result.status;
}

void KeyCache::Insert(ScopeKey key, bool isErased, const ScopeName* name, SteadyTime expires) {
  const KeyRef ref = key.kek.has_value() ? KeyRef(key.id, key.kek->id) : key.id;
  if (key.kek.has_value()) {
    RenewKek(*key.kek);
    // Where the KEK is not heard of again, its keys are gone from memory soon after they count no more.
    expires = std::min(expires, key.kek->asked + options_.cacheTtl * 3 / 2);
  }
  if (const uint32_t old = IndexOf(ref); old != kNowhere) {
    // A key found by id says nothing new about one that is here with its name, and must not make it live longer.
    const CachedKey& known = slab_[old];
    if (known.isErased == isErased && name == nullptr && known.hasName && !IsTooOld(known)) return;
    Remove(old);
  }
  if (name != nullptr) {
    // The name goes to the new key (a new window); the old one is still found by id.
    if (const uint32_t old = IndexOf(*name, TagOf(*name)); old != kNowhere) TakeName(slab_[old]);
  }
  if (slab_.isFull()) Remove(slab_.oldest());
  CachedKey& added = slab_.Add();
  const uint32_t index = slab_.IndexOf(added);
  added.id = key.id;
  added.expires = expires;
  added.lastUsed = now_;
  added.scope = key.scope;
  added.isErased = isErased;
  added.erasedSubject = key.erasedSubject;
  added.key = std::move(key.key);
  HoldFacts(added, std::move(key.facts));
  if (key.kek.has_value()) {
    added.kek = HoldKek(*key.kek, name);
    underKeks_.Insert(TagOf(added.id), index);
  }
  RestoreCount(added);
  byId_.Insert(TagOf(ref), index);
  if (name == nullptr) return;
  added.SetName(*name);
  byName_.Insert(TagOf(*name), index);
}

void KeyCache::Remove(uint32_t index) {
  CachedKey& key = slab_[index];
  NoteCount(key);
  TakeName(key);
  HoldFacts(key, nullptr);
  expanded_.Forget(key, index);
  byId_.Remove(TagOf(RefOf(key)), index);
  if (CachedKek* const kek = key.kek) {
    underKeks_.Remove(TagOf(key.id), index);
    if (--kek->keys == 0) keks_.erase(crypto::KeyId(kek->id));
  }
  slab_.Remove(index);
}

bool KeyCache::RemoveUnderKeks(const crypto::KeyId& id) {
  bool areAny = false;
  for (;; areAny = true) {
    const uint32_t index = underKeks_.Find(TagOf(id), [&](uint32_t one) { return slab_[one].id == id; });
    if (index == kNowhere) return areAny;
    Remove(index);
  }
}

CachedKek* KeyCache::HoldKek(const KekUse& use, const ScopeName* name) {
  std::unique_ptr<CachedKek>& held = keks_[use.id];
  if (held == nullptr) held = std::make_unique<CachedKek>(CachedKek{use.id, use.asked + options_.cacheTtl, {}, 0});
  if (name != nullptr && held->name.empty()) held->name = name->keyspace.substr(NameOfRow(*name).keyspace.size());
  ++held->keys;
  return held.get();
}

void KeyCache::RenewKek(const KekUse& use) {
  const auto held = keks_.find(use.id);
  if (held == keks_.end()) return;
  held->second->expires = std::max(held->second->expires, use.asked + options_.cacheTtl);
}

void KeyCache::TakeName(CachedKey& key) {
  if (!key.hasName) return;
  ScopeName name = key.Name();
  std::string underKek;
  if (key.kek != nullptr) {
    underKek = StrCat(name.keyspace, key.kek->name);
    name.keyspace = underKek;
  }
  byName_.Remove(TagOf(name), slab_.IndexOf(key));
  key.ForgetName();
}

void KeyCache::HoldFacts(CachedKey& key, users::SharedFacts facts) {
  if (facts.get() == key.facts) return;
  const uint32_t index = slab_.IndexOf(key);
  if (index >= facts_.size()) facts_.resize(index + 1);
  key.facts = facts.get();
  facts_[index] = std::move(facts);
}

void KeyCache::MarkErased(const crypto::KeyId& id) {
  const bool wereUnderKeks = RemoveUnderKeks(id);
  const uint32_t index = IndexOf(id);
  if (index == kNowhere) {
    if (!wereUnderKeks) return;
    ScopeKey erased;
    erased.id = id;
    return Insert(std::move(erased), /*isErased=*/true, nullptr, now_ + options_.cacheTtl);
  }
  CachedKey& key = slab_[index];
  TakeName(key);
  HoldFacts(key, nullptr);
  expanded_.Forget(key, index);
  key.isErased = true;
  key.key = crypto::SecretKey();
  key.periodKey = crypto::SecretKey();
  key.hasPeriodKey = false;
}

void KeyCache::Clear() {
  ++timesCleared_;
  while (slab_.size() > 0) Remove(slab_.oldest());
}

void KeyCache::NoteCount(const CachedKey& key) {
  if (key.window != window_ || key.sealed < manySealed_) return;
  const KeyRef ref = RefOf(key);
  if (counted_.size() < kMostCounted || counted_.contains(ref)) counted_[ref] = key.sealed;
}

void KeyCache::RestoreCount(CachedKey& key) const {
  key.window = window_;
  if (const auto found = counted_.find(RefOf(key)); found != counted_.end()) {
    key.sealed = found->second;
  } else if (counted_.size() >= kMostCounted) {
    key.sealed = kMostUnderAPeriodKey;  // it may be one of those that there was no room for
  }
}

void KeyCache::DropExpired() {
  for (size_t removed = 0; removed < kMostRemovedByACall; ++removed) {
    if (slab_.size() == 0 || slab_[slab_.oldest()].expires > now_) return;
    Remove(slab_.oldest());
  }
}

void KeyCache::DropBeyondCapacity() {
  for (size_t removed = 0; slab_.size() > capacity_; ++removed) {
    const bool beyondAll = slab_.size() > capacity_ * kMaxOverCapacity;
    const bool inUse = slab_[slab_.oldest()].lastUsed + inUse_ > now_;
    if (!beyondAll && (inUse || removed >= kMostRemovedByACall)) return;
    Remove(slab_.oldest());
  }
}

}  // namespace kveil::keys
