// Ends a thread that works and sleeps in turns.
#pragma once

#include <chrono>
#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace kveil {

// Any thread may call.
class StopSignal {
 public:
  // Ends every Sleep, and those to come at once.
  void Stop() {
    {
      const MutexLock lock(mutex_);
      isStopping_ = true;
    }
    stopped_.notify_all();
  }

  bool isStopping() const {
    const MutexLock lock(mutex_);
    return isStopping_;
  }

  // Waits. False when it is cut short by Stop.
  bool Sleep(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    const MutexLock lock(mutex_);
    while (!isStopping_) {
      if (stopped_.wait_until(mutex_, end) == std::cv_status::timeout) break;
    }
    return !isStopping_;
  }

 private:
  mutable Mutex mutex_;
  std::condition_variable_any stopped_;
  bool isStopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kveil
