// The memory that a connection takes for outstanding responses. It is bounded per connection and counts towards the
// workload's share and the worker's budget.
//
// The first few KiB are free, so that an ordinary client with few requests never waits for others and costs the budget
// nothing. Beyond that a connection takes memory in steps. If there is none, the connection is full, and the proxy
// stops reading from its application until responses have come.
#pragma once

#include <cstddef>

#include "proxy/memory_budget.h"
#include "proxy/workload_share.h"

namespace kveil::proxy {

class OwedMemory {
 public:
  static constexpr size_t kMost = 4 << 20;   // bytes of one connection, but for its last request
  static constexpr size_t kFree = 16 << 10;  // bytes that are not counted towards the budget
  static constexpr size_t kStep = 64 << 10;  // bytes
  static constexpr size_t kUsual = 1 << 10;  // bytes that one more request takes, but for rare ones

  OwedMemory(MemoryBudget& budget, WorkloadShare& share) : budget_(budget), share_(share) {}
  OwedMemory(const OwedMemory&) = delete;
  OwedMemory& operator=(const OwedMemory&) = delete;
  ~OwedMemory() { Uncharge(charged_); }

  // What has to be remembered is, whether it fits or not: whoever adds asks IsFull before the next request.
  void Add(size_t bytes) {
    used_ += bytes;
    if (used_ <= kFree + charged_) return;
    const size_t missing = used_ - kFree - charged_;
    Charge((missing + kStep - 1) / kStep * kStep);
  }
  void Remove(size_t bytes) {
    used_ -= bytes;
    // A step is kept, so that a connection at its edge does not take and give all the time.
    while (charged_ > 0 && used_ + 2 * kStep <= kFree + charged_) Uncharge(kStep);
    if (used_ == 0) Uncharge(charged_);
  }

  // Whether the next request has to wait. Takes the memory for it where there is some.
  bool IsFull() {
    if (used_ >= kMost) return true;
    if (used_ + kUsual <= kFree + charged_) return false;
    if (!IsWithinShare(share_.bytes, kStep, budget_.free()) || !budget_.TryAcquireOwed(kStep)) return true;
    charged_ += kStep;
    share_.bytes += kStep;
    return false;
  }

  size_t used() const { return used_; }

 private:
  void Charge(size_t bytes) {
    budget_.AcquireOwedAnyway(bytes);
    charged_ += bytes;
    share_.bytes += bytes;
  }
  void Uncharge(size_t bytes) {
    if (bytes == 0) return;
    charged_ -= bytes;
    share_.bytes -= bytes;
    budget_.ReleaseOwed(bytes);
    if (share_.waiting > 0) share_.changed.Set();
  }

  MemoryBudget& budget_;
  WorkloadShare& share_;
  size_t used_ = 0;
  size_t charged_ = 0;  // to budget and share
};

}  // namespace kveil::proxy
