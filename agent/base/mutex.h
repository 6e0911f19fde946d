// A mutex for clang's thread safety analysis: ABSL_GUARDED_BY names what it guards, and -Wthread-safety rejects code
// that touches that without the lock.
//
//   Mutex mutex_;
//   std::condition_variable_any changed_;
//   std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
//
//   const MutexLock lock(mutex_);
//   while (jobs_.empty()) changed_.wait(mutex_);
//
// Not absl::Mutex: before 20230802, its CondVar's timeouts follow the wall clock, so setting the clock back would stop
// a heartbeat. Those of std::condition_variable_any are steady.
#pragma once

#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

namespace kveil {

class ABSL_LOCKABLE Mutex {
 public:
  // Named as std::condition_variable_any and std::scoped_lock expect.
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  bool try_lock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) { return mutex_.try_lock(); }

 private:
  std::mutex mutex_;
};

// Holds a mutex for as long as it lives.
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_.lock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  Mutex& mutex_;
};

}  // namespace kveil
