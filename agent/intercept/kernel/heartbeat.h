// Tells the kernel half that the agent lives, on a thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

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
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace kveil::intercept
