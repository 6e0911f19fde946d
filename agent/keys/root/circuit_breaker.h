// Stops asking a service that does not answer, and lets one call at a time find out whether it is back.
#pragma once

#include <algorithm>
#include <chrono>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "http/jitter.h"

namespace kveil::keys {

// Closed: calls begin. After `failures` of them in a row it opens: none begins for a pause. Then one may, which closes
// it or opens it for a pause that is twice as long. Any thread may call.
class CircuitBreaker {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Options {
    int failures = 5;
    std::chrono::milliseconds pause{1'000};
    std::chrono::milliseconds longestPause{15'000};
  };

  explicit CircuitBreaker(const Options& options) : options_(options), pause_(options.pause) {}

  // Whether a call may begin now. After true, the caller reports how it went.
  bool MayBegin(Time now) {
    const MutexLock lock(mutex_);
    if (!isOpen_) return true;
    if (isProbing_ || now < openUntil_) return false;
    isProbing_ = true;
    return true;
  }

  void Report(bool answered, Time now) {
    const MutexLock lock(mutex_);
    isProbing_ = false;
    if (answered) {
      isOpen_ = false;
      failures_ = 0;
      pause_ = options_.pause;
      return;
    }
    if (++failures_ < options_.failures) return;
    // One that began before the others failed must not make the pause longer.
    if (isOpen_ && now < openUntil_) return;
    // Agents that lost the service at the same moment must not come back at the same moment.
    openUntil_ = now + pause_ / 2 + http::UpTo(pause_ / 2);
    if (isOpen_) pause_ = std::min(2 * pause_, options_.longestPause);
    isOpen_ = true;
  }

  bool isOpen() const {
    const MutexLock lock(mutex_);
    return isOpen_;
  }

 private:
  const Options options_;
  mutable Mutex mutex_;
  bool isOpen_ ABSL_GUARDED_BY(mutex_) = false;
  bool isProbing_ ABSL_GUARDED_BY(mutex_) = false;
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;  // in a row
  std::chrono::milliseconds pause_ ABSL_GUARDED_BY(mutex_);
  Time openUntil_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
