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

  // Memory that may be in use for as long as a peer likes, because it answers nothing: it counts like any other, but a
  // frame larger than the whole budget does not wait for it. False, and nothing taken, as above.
  bool TryAcquireOwed(size_t bytes) {
    if (!waiting_.empty() || used_ + bytes > limit_) return false;
    AcquireOwedAnyway(bytes);
    return true;
  }
  // The same for what is in use already, also beyond the limit: then everybody else waits.
  void AcquireOwedAnyway(size_t bytes) {
    owed_ += bytes;
    used_ += bytes;
  }
  void ReleaseOwed(size_t bytes) {
    owed_ -= bytes;
    Release(bytes);
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
  size_t free() const { return limit_ - std::min(used_, limit_); }
  bool isWaitedFor() const { return !waiting_.empty(); }

 private:
  struct Waiter {
    explicit Waiter(size_t bytes) : bytes(bytes) {}
    size_t bytes;
    io::Event granted;
  };

  bool Fits(size_t bytes) const { return used_ == owed_ || used_ + bytes <= limit_; }

  size_t limit_;
  size_t used_ = 0;
  size_t owed_ = 0;  // of it
  std::deque<Waiter*> waiting_;
};

}  // namespace kveil::proxy
