// Tells the kernel half that the agent lives, on a thread of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

#include "base/mutex.h"

namespace kveil::intercept {

// Nanoseconds of the clock that the kernel half reads.
uint64_t MonotonicNanoseconds();

class Heartbeat {
 public:
  // Calls `beat` now and then every `interval` on its thread.
  Heartbeat(std::chrono::milliseconds interval, std::function<void()> beat);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

 private:
  bool StoppedWithin(std::chrono::milliseconds interval);

  Mutex mutex_;
  std::condition_variable_any stopped_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kveil::intercept
