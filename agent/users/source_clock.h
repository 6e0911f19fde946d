// Until when the consents that come from a topic count.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace kveil::users {

// One for each topic that consents come from. Any thread may ask; one thread sets. It begins with nothing that counts.
class SourceClock {
 public:
  // Whether consents of this generation count at `now`.
  bool IsCurrent(int64_t generation, absl::Time now) const {
    if (generation != generation_.load(std::memory_order_acquire)) return false;
    const int64_t until = until_.load(std::memory_order_acquire);
    // A time that was set after a generation that is new is read after it, too: it is not taken for the former one's.
    return generation == generation_.load(std::memory_order_acquire) && absl::ToUnixMillis(now) < until;
  }

  // Those of `generation` count before `until`, those of every other do not.
  void Set(int64_t generation, absl::Time until) {
    if (generation_.load(std::memory_order_relaxed) != generation) {
      until_.store(0, std::memory_order_release);
      generation_.store(generation, std::memory_order_release);
    }
    until_.store(absl::ToUnixMillis(until), std::memory_order_release);
  }

 private:
  std::atomic<int64_t> generation_{0};
  std::atomic<int64_t> until_{0};  // milliseconds since 1970
};

}  // namespace kveil::users
