// How an erasure, or a change of what is known of a user, reaches every cache at once: a number that changes, and a
// short memory of what changed it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "crypto/key_id.h"

namespace kveil::keys {

// Any thread may call.
class Revocations {
 public:
  // Grows by one with every revocation. Costs one atomic read, so look at it before every batch.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  // `changed`: keys to look up anew, as something else is known of their users.
  void Revoke(const std::vector<crypto::KeyId>& erased, const std::vector<crypto::KeyId>& changed = {});
  // Has every cache empty itself, when it is not known which keys were revoked.
  void RevokeAll();

  struct Revoked {
    uint64_t generation = 0;  // up to which the lists are complete
    bool all = false;
    std::vector<crypto::KeyId> erased;
    std::vector<crypto::KeyId> changed;
  };
  // What was revoked after `generation`.
  Revoked After(uint64_t generation) const;

  // One who keeps keys. It says how far it has dropped what was revoked.
  class Follower {
   public:
    explicit Follower(const Revocations& revocations) : state_(revocations.Follow()) {}
    // All that was revoked up to `generation` is dropped and wiped. Any one thread.
    void Dropped(uint64_t generation) { state_->store(generation, std::memory_order_release); }
    // The generation of the last Dropped; before, the one at which it began. The same thread.
    uint64_t dropped() const { return state_->load(std::memory_order_relaxed); }

   private:
    std::shared_ptr<std::atomic<uint64_t>> state_;
  };
  // Up to which generation every follower that lives has dropped what was revoked.
  uint64_t DroppedByAll() const;

 private:
  std::shared_ptr<std::atomic<uint64_t>> Follow() const;

  static constexpr size_t kMaxRemembered = 65'536;
  struct Event {
    uint64_t generation;
    crypto::KeyId id;
    bool isErased;
  };

  std::atomic<uint64_t> generation_{0};
  mutable Mutex mutex_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mutex_);
  mutable std::vector<std::weak_ptr<std::atomic<uint64_t>>> followers_ ABSL_GUARDED_BY(mutex_);
  uint64_t forgotten_ ABSL_GUARDED_BY(mutex_) = 0;  // events up to this generation are not in events_ any more
};

}  // namespace kveil::keys
