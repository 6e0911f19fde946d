// Tells the kernel half, on its own thread, that the agent lives.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

#include "base/stop_signal.h"

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
  StopSignal stop_;
  std::thread thread_;
};

}  // namespace kveil::intercept
