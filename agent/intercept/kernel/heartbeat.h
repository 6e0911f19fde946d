// Tells the kernel half, on its own thread, that the agent lives.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

#include "base/mutex.h"

namespace kveil::intercept {

// The clock that the kernel half reads, in nanoseconds.
uint64_t MonotonicNanoseconds();

class Heartbeat {
 public:
  // Calls `beat` at once on the calling thread, and then every `interval` on the heartbeat's.
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
