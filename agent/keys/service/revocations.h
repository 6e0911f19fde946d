// How an erasure reaches every cache at once: a number that changes, and a short memory of what changed it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
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

  void Revoke(const std::vector<crypto::KeyId>& ids);
  // Has every cache empty itself, when it is not known which keys were revoked.
  void RevokeAll();

  struct Revoked {
    uint64_t generation = 0;  // up to which `ids` is complete
    bool all = false;
    std::vector<crypto::KeyId> ids;
  };
  // What was revoked after `generation`.
  Revoked After(uint64_t generation) const;

 private:
  static constexpr size_t kMaxRemembered = 65'536;
  struct Event {
    uint64_t generation;
    crypto::KeyId id;
  };

  std::atomic<uint64_t> generation_{0};
  mutable Mutex mutex_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mutex_);
  uint64_t forgotten_ ABSL_GUARDED_BY(mutex_) = 0;  // events up to this generation are not in events_ any more
};

}  // namespace kveil::keys
