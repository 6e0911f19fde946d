// A bounded map whose entries live for a fixed time after they were last put.
//
//   ExpiringMap<Producer, Refused> refused(/*capacity=*/100'000, /*lifetime=*/std::chrono::minutes(10));
//   refused.Put(producer, entry, now);
//   if (const Refused* known = refused.Find(producer, now)) ...
//
// Each lookup and each Put also removes a few expired entries: every call does a constant amount of work, and the map
// is empty some calls after the last entry has expired. When the map is full, Put evicts the entry that was put or
// renewed longest ago, and counts it. The owner decides whether forgetting is safe, and reports evictions() if users
// should hear of the limit.
//
// Not thread-safe. `now` must not go backwards (steady_clock).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace kveil {

template <typename Key, typename Value>
class ExpiringMap {
 public:
  using Clock = std::chrono::steady_clock;

  // `capacity` is at least 1.
  ExpiringMap(size_t capacity, Clock::duration lifetime) : capacity_(capacity), lifetime_(lifetime) {}
  ExpiringMap(const ExpiringMap&) = delete;
  ExpiringMap& operator=(const ExpiringMap&) = delete;

  // The value, or nullptr if there is none or it has expired. Valid until the next non-const call.
  template <typename K>
  Value* Find(const K& key, Clock::time_point now) {
    RemoveExpired(now);
    const auto found = index_.find(key);
    if (found == index_.end() || found->second->expires <= now) return nullptr;
    return &found->second->value;
  }

  // Like Find, and restarts the lifetime.
  template <typename K>
  Value* FindAndRenew(const K& key, Clock::time_point now) {
    RemoveExpired(now);
    const auto found = index_.find(key);
    if (found == index_.end() || found->second->expires <= now) return nullptr;
    byAge_.splice(byAge_.end(), byAge_, found->second);
    found->second->expires = now + lifetime_;
    return &found->second->value;
  }

  // Sets the value and restarts its lifetime. The reference is valid until the next non-const call.
  Value& Put(const Key& key, Value value, Clock::time_point now) {
    RemoveExpired(now);
    const auto [found, isNew] = index_.try_emplace(key);
    if (!isNew) {
      byAge_.splice(byAge_.end(), byAge_, found->second);
    } else {
      byAge_.emplace_back(key);
      found->second = std::prev(byAge_.end());
    }
    Entry& entry = *found->second;
    entry.value = std::move(value);
    entry.expires = now + lifetime_;
    if (index_.size() > capacity_) {
      RemoveOldest();
      ++evictions_;
    }
    return entry.value;
  }

  // Returns whether there was an entry, expired or not.
  template <typename K>
  bool Erase(const K& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return false;
    byAge_.erase(found->second);
    index_.erase(found);
    return true;
  }

  // Includes expired entries that have not been removed yet.
  size_t size() const { return index_.size(); }
  bool empty() const { return index_.empty(); }
  size_t capacity() const { return capacity_; }
  // Entries removed before their time because the map was full.
  uint64_t evictions() const { return evictions_; }

 private:
  // More than one, so that expired entries go faster than new ones come.
  static constexpr int kMostRemovedByACall = 4;

  struct Entry {
    explicit Entry(const Key& key) : key(key) {}
    Key key;
    Value value{};
    Clock::time_point expires;
  };

  void RemoveExpired(Clock::time_point now) {
    for (int i = 0; i < kMostRemovedByACall && !byAge_.empty() && byAge_.front().expires <= now; ++i) RemoveOldest();
  }

  void RemoveOldest() {
    index_.erase(byAge_.front().key);
    byAge_.pop_front();
  }

  const size_t capacity_;
  const Clock::duration lifetime_;
  std::list<Entry> byAge_;  // all live equally long, so the first expires first
  absl::flat_hash_map<Key, typename std::list<Entry>::iterator> index_;
  uint64_t evictions_ = 0;
};

}  // namespace kveil
