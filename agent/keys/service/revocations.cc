// Remembers what was revoked, and forgets the oldest.
#include "keys/service/revocations.h"

#include <algorithm>

namespace kveil::keys {

void Revocations::Revoke(const std::vector<crypto::KeyId>& erased, const std::vector<crypto::KeyId>& changed) {
  const MutexLock lock(mutex_);
  const uint64_t generation = generation_.load(std::memory_order_relaxed) + 1;
  for (const crypto::KeyId& id : erased) events_.push_back({generation, id, true});
  for (const crypto::KeyId& id : changed) events_.push_back({generation, id, false});
  while (events_.size() > kMaxRemembered) {
    forgotten_ = events_.front().generation;
    events_.pop_front();
  }
  generation_.store(generation, std::memory_order_release);
}

void Revocations::RevokeAll() {
  const MutexLock lock(mutex_);
  const uint64_t generation = generation_.load(std::memory_order_relaxed) + 1;
  events_.clear();
  forgotten_ = generation;
  generation_.store(generation, std::memory_order_release);
}

Revocations::Revoked Revocations::After(uint64_t generation) const {
  const MutexLock lock(mutex_);
  Revoked revoked;
  revoked.generation = generation_.load(std::memory_order_relaxed);
  revoked.all = generation < forgotten_;
  if (revoked.all) return revoked;
  for (auto event = events_.rbegin(); event != events_.rend() && event->generation > generation; ++event) {
    (event->isErased ? revoked.erased : revoked.changed).push_back(event->id);
  }
  return revoked;
}

std::shared_ptr<std::atomic<uint64_t>> Revocations::Follow() const {
  const MutexLock lock(mutex_);
  auto state = std::make_shared<std::atomic<uint64_t>>(generation_.load(std::memory_order_relaxed));
  followers_.push_back(state);
  return state;
}

uint64_t Revocations::DroppedByAll() const {
  const MutexLock lock(mutex_);
  std::erase_if(followers_, [](const auto& follower) { return follower.expired(); });
  uint64_t dropped = generation_.load(std::memory_order_relaxed);
  for (const auto& follower : followers_) {
    if (const auto state = follower.lock()) dropped = std::min(dropped, state->load(std::memory_order_acquire));
  }
  return dropped;
}

}  // namespace kveil::keys
