// Timers, earliest first. The loop waits no longer than until the first.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

namespace kveil::io {

using Deadline = std::chrono::steady_clock::time_point;  // Deadline::max(): none

class Loop;

class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // The loop calls this when the time has come, after removing the timer from the heap.
  virtual void OnTime(Loop& loop) = 0;

 protected:
  ~Timer() = default;

 private:
  friend class TimerHeap;
  static constexpr size_t kNowhere = ~size_t{0};

  Deadline time_ = Deadline::max();
  size_t position_ = kNowhere;
};

// A binary heap of timers that know their positions: most deadlines are met, and removing their timers early takes no
// search. Allocates only when it holds more timers than ever before.
class TimerHeap {
 public:
  void Add(Timer& timer, Deadline time);
  // Does nothing if the timer is not in the heap.
  void Remove(Timer& timer);
  // Removes and returns the first timer whose time is not after `now`, or nullptr.
  Timer* PopDue(Deadline now);

  bool empty() const { return heap_.empty(); }
  Deadline next() const { return heap_.empty() ? Deadline::max() : heap_.front()->time_; }

 private:
  void Place(size_t position, Timer* timer);
  void MoveUp(size_t position);
  void MoveDown(size_t position);

  std::vector<Timer*> heap_;
};

}  // namespace kveil::io
