// A few threads for calls that wait for the network.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "base/mutex.h"

namespace kveil::keys {

// Any thread may call.
class CallPool {
 public:
  CallPool(size_t threads, size_t mostWaiting);
  // Calls Stop, runs what was posted, and waits for it.
  ~CallPool();

  // Whether the job will run. False when as many wait already as may, or after Stop.
  bool Post(absl::AnyInvocable<void()> job);
  // Whether Post takes a job, when nobody else posts one.
  bool hasRoom() const;

  // Takes no more jobs, and ends every Sleep.
  void Stop();
  bool isStopping() const;
  // For jobs: waits. False when it is cut short by Stop.
  bool Sleep(std::chrono::milliseconds time);

 private:
  void Run();

  const size_t mostWaiting_;
  mutable Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<absl::AnyInvocable<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool isStopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kveil::keys
