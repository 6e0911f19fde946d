// The bound on the memory that long frames may take in one worker, as a queue: who does not get room waits.
#pragma once

#include <algorithm>
#include <deque>

#include "io/event.h"
#include "io/task.h"

namespace kveil::proxy {

class MemoryBudget {
 public:
  explicit MemoryBudget(size_t limit) : limit_(limit) {}

  // Waits until `bytes` fit beside what is in use, first come first served. A frame larger than the whole budget gets
  // it alone.
  io::Task<void> Acquire(size_t bytes) {
    if (waiting_.empty() && Fits(bytes)) {
      used_ += bytes;
      co_return;
    }
    Waiter waiter(bytes);
    waiting_.push_back(&waiter);
    co_await waiter.granted.Wait();
  }

  // False, and nothing taken, when they do not fit now or somebody waits.
  bool TryAcquire(size_t bytes) {
    if (!waiting_.empty() || !Fits(bytes)) return false;
    used_ += bytes;
    return true;
  }

  void Release(size_t bytes) {
    used_ -= bytes;
    while (!waiting_.empty() && Fits(waiting_.front()->bytes)) {
      Waiter* next = waiting_.front();
      waiting_.pop_front();
      used_ += next->bytes;
      next->granted.Set();
    }
  }

  size_t used() const { return used_; }
  bool isWaitedFor() const { return !waiting_.empty(); }

 private:
  struct Waiter {
    explicit Waiter(size_t bytes) : bytes(bytes) {}
    size_t bytes;
    io::Event granted;
  };

  bool Fits(size_t bytes) const { return used_ == 0 || used_ + bytes <= limit_; }

  size_t limit_;
  size_t used_ = 0;
  std::deque<Waiter*> waiting_;
};

}  // namespace kveil::proxy
