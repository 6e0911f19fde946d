// The cache of one worker thread: a list by age, and two ways to find an entry in it.
#include "keys/cache/key_cache.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "crypto/hmac.h"
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
// The thread's HMAC context holds the scope key that a batch key was last derived with.
constexpr std::chrono::milliseconds kForgetHmacKeyEvery{200};

}  // namespace

KeyCache::KeyCache(KeyService& service, std::chrono::milliseconds inUse, size_t capacity)
    : service_(service),
      inUse_(inUse),
      capacity_(std::max<size_t>(1, capacity)),
      mask_(service.NewMask()),
      notThere_(kMostNotThere, kUnknownTtl) {
  generation_ = service_.revocations().generation();
  RefreshTime();
}

void KeyCache::RefreshTime() { now_ = service_.options().steadyNow(); }

void KeyCache::Refresh() {
  RefreshTime();
  TakeRevocations();
  DropExpired();
  if (now_ - hmacKeyForgotten_ >= kForgetHmacKeyEvery) {
    crypto::ForgetHmacKey();
    hmacKeyForgotten_ = now_;
  }
}

void KeyCache::TakeRevocations() {
  if (service_.revocations().generation() == generation_) return;
  const Revocations::Revoked revoked = service_.revocations().After(generation_);
  generation_ = revoked.generation;
  crypto::ForgetHmacKey();
  if (revoked.all) return Clear();
  for (const crypto::KeyId& id : revoked.ids) MarkErased(id);
}

const ScopeKey* KeyCache::FindForSealing(const ScopeName& name) {
  auto found = byName_.find(name);
  if (found == byName_.end()) return nullptr;
  Entry& entry = *found->second;
  if (entry.expires <= now_) return nullptr;
  entry.lastUsed = now_;
  return &entry.key;
}

KeyCache::Found KeyCache::FindById(const crypto::KeyId& id) {
  auto found = byId_.find(id);
  if (found == byId_.end() || found->second->expires <= now_) {
    const State* const state = notThere_.Find(id, now_);
    return {state == nullptr ? State::kNotCached : *state, nullptr};
  }
  Entry& entry = *found->second;
  entry.lastUsed = now_;
  return {entry.state, entry.state == State::kReady ? &entry.key : nullptr};
}

void KeyCache::Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
  service_.Fetch(std::move(misses), workload, std::move(done));
}

absl::Status KeyCache::Deliver(FetchResult result) {
  Refresh();
  // Erased after they were read: they must not come back.
  absl::flat_hash_set<crypto::KeyId> revoked;
  if (result.generation != generation_) {
    const Revocations::Revoked since = service_.revocations().After(result.generation);
    if (since.all) return result.status;
    revoked.insert(since.ids.begin(), since.ids.end());
  }
  const SteadyTime expires = result.unwrapped + service_.options().cacheTtl;
  for (FetchResult::ByScope& found : result.scopes) {
    if (revoked.contains(found.key.id)) continue;
    Insert({.state = found.key.erasedSubject ? State::kErased : State::kReady,
            .key = std::move(found.key),
            .name = std::move(found.name),
            .hasName = true,
            .expires = expires});
  }
  for (FetchResult::ById& found : result.ids) {
    const bool wasRevoked = revoked.contains(found.id);
    if (!wasRevoked && found.state == FetchResult::IdState::kUnknown) {
      notThere_.Put(found.id, State::kUnknown, now_);
      continue;
    }
    if (!wasRevoked && found.state == FetchResult::IdState::kDamaged) {
      notThere_.Put(found.id, State::kDamaged, now_);
      continue;
    }
    Entry entry{.key = std::move(found.key), .expires = expires};
    entry.key.id = found.id;
    if (found.state != FetchResult::IdState::kReady || wasRevoked) {
      entry.state = State::kErased;
      entry.key.key = crypto::SecretKey();
    }
    Insert(std::move(entry));
  }
  DropBeyondCapacity();
  return result.status;
}

void KeyCache::Insert(Entry entry) {
  entry.lastUsed = now_;
  if (auto old = byId_.find(entry.key.id); old != byId_.end()) {
    // A key found by id says nothing new about one that is here with its name, and must not make it live longer.
    const Entry& known = *old->second;
    const bool sameState = known.state == entry.state;
    if (sameState && !entry.hasName && known.hasName && known.expires > now_) return;
    Remove(old->second);
  }
  if (entry.hasName) {
    // The name goes to the new key (a new window); the old one is still found by id.
    if (auto old = byName_.find(entry.name.view()); old != byName_.end()) {
      old->second->hasName = false;
      byName_.erase(old);
    }
  }
  auto inserted = entries_.insert(entries_.end(), std::move(entry));
  byId_[inserted->key.id] = inserted;
  if (inserted->hasName) byName_[inserted->name.view()] = inserted;
}

void KeyCache::Remove(Entries::iterator entry) {
  if (entry->hasName) byName_.erase(entry->name.view());
  byId_.erase(entry->key.id);
  entries_.erase(entry);
}

void KeyCache::MarkErased(const crypto::KeyId& id) {
  auto found = byId_.find(id);
  if (found == byId_.end()) return;
  Entry& entry = *found->second;
  if (entry.hasName) byName_.erase(entry.name.view());
  entry.hasName = false;
  entry.state = State::kErased;
  entry.key.key = crypto::SecretKey();
}

void KeyCache::Clear() {
  byName_.clear();
  byId_.clear();
  entries_.clear();
}

void KeyCache::DropExpired() {
  for (size_t removed = 0; removed < kMostRemovedByACall; ++removed) {
    if (entries_.empty() || entries_.front().expires > now_) return;
    Remove(entries_.begin());
  }
}

void KeyCache::DropBeyondCapacity() {
  for (size_t removed = 0; entries_.size() > capacity_; ++removed) {
    const bool beyondAll = entries_.size() > capacity_ * kMaxOverCapacity;
    const bool inUse = entries_.front().lastUsed + inUse_ > now_;
    if (!beyondAll && (inUse || removed >= kMostRemovedByACall)) return;
    Remove(entries_.begin());
  }
}

}  // namespace kveil::keys
