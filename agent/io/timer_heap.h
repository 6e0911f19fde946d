// What is to happen at a time, earliest first. The loop waits no longer than until the first.
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

  // Called by the loop when the time has come; the timer is no longer in the heap then.
  virtual void OnTime(Loop& loop) = 0;

 protected:
  ~Timer() = default;

 private:
  friend class TimerHeap;
  static constexpr size_t kNowhere = ~size_t{0};

  Deadline time_ = Deadline::max();
  size_t position_ = kNowhere;
};

// A binary heap of timers that know their position, so that taking one out before its time costs no search: most
// deadlines are met. Allocates only when it holds more timers than ever before.
class TimerHeap {
 public:
  void Add(Timer& timer, Deadline time);
  // Does nothing when the timer is not in the heap.
  void Remove(Timer& timer);
  // Takes out and returns the first timer whose time is not after `now`, or nullptr.
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
