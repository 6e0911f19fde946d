// The heartbeat's thread.
#include "intercept/kernel/heartbeat.h"

#include <ctime>
#include <utility>

#include "base/mutex.h"

namespace kveil::intercept {

uint64_t MonotonicNanoseconds() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

Heartbeat::Heartbeat(std::chrono::milliseconds interval, std::function<void()> beat) {
  beat();
  thread_ = std::thread([this, interval, beat = std::move(beat)] {
    while (!StoppedWithin(interval)) beat();
  });
}

bool Heartbeat::StoppedWithin(std::chrono::milliseconds interval) {
  const auto end = std::chrono::steady_clock::now() + interval;
  const MutexLock lock(mutex_);
  while (!stop_) {
    if (stopped_.wait_until(mutex_, end) == std::cv_status::timeout) break;
  }
  return stop_;
}

Heartbeat::~Heartbeat() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

}  // namespace kveil::intercept
