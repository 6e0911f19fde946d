// A request to the kernel, and the coroutine that waits for its completion.
#pragma once

#include <cstdint>

#include "io/ready_queue.h"
#include "io/timer_heap.h"

struct io_uring_sqe;

namespace kveil::io {

// A member of the object it works on (a socket, a listener, the loop). That object must live until the last completion:
// until then the kernel reads and writes what the request refers to, even after a cancellation.
class Operation : public Timer {
 public:
  // Fills the submission entry, except its user data. Called once an entry is free, in this turn or a later one.
  virtual void Prepare(io_uring_sqe& entry) = 0;
  // Called for every completion, with `result` and `flags` set. Return true to submit it again, with the same deadline,
  // before the waiter resumes (after a short send). Ignored while a multishot operation continues.
  virtual bool OnCompletion() { return false; }
  // Called when the operation has ended and its waiter, if any, is in the ready queue.
  virtual void OnEnd() {}
  // The deadline has passed: cancels it.
  void OnTime(Loop& loop) final;

  bool pending() const { return pending_; }
  int32_t result() const { return result_; }
  uint32_t flags() const { return flags_; }
  // Whether it was cancelled because its deadline passed. It may have succeeded nevertheless.
  bool timedOut() const { return timedOut_; }

  Waiter waiter;

 protected:
  ~Operation() = default;

 private:
  friend class Loop;
  int32_t result_ = 0;  // the system call's result, or -errno
  uint32_t flags_ = 0;  // IORING_CQE_F_...
  bool pending_ = false;
  bool timedOut_ = false;
};

}  // namespace kveil::io
