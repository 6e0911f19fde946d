// The heartbeat's thread.
#include "intercept/kernel/heartbeat.h"

#include <ctime>
#include <utility>

namespace kveil::intercept {

uint64_t MonotonicNanoseconds() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

Heartbeat::Heartbeat(std::chrono::milliseconds interval, std::function<void()> beat) {
  beat();
  thread_ = std::thread([this, interval, beat = std::move(beat)] {
    while (stop_.Sleep(interval)) beat();
  });
}

Heartbeat::~Heartbeat() {
  stop_.Stop();
  thread_.join();
}

}  // namespace kveil::intercept
