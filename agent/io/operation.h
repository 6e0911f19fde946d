// One request to the kernel and who waits for its completion.
#pragma once

#include <cstdint>

#include "io/ready_queue.h"
#include "io/timer_heap.h"

struct io_uring_sqe;

namespace kveil::io {

// Is a member of what it works on (a socket, a listener, the loop), which stays until the last completion has come: the
// kernel reads and writes what the request refers to until then, whatever was cancelled meanwhile.
class Operation : public Timer {
 public:
  // Fills the submission entry, all but its user data. Called when there is a free one, this turn or a later one.
  virtual void Prepare(io_uring_sqe& entry) = 0;
  // Called with every completion; `result` and `flags` are set. True: submit it again, with the same deadline, before
  // the waiter is resumed (a send that was short). Ignored while a multishot operation goes on by itself.
  virtual bool OnCompletion() { return false; }
  // Called when the operation has ended and its waiter, if any, is in the queue.
  virtual void OnEnd() {}
  // The deadline has passed: cancels it.
  void OnTime(Loop& loop) final;

  bool pending() const { return pending_; }
  int32_t result() const { return result_; }
  uint32_t flags() const { return flags_; }
  // Whether it was cancelled because its deadline had passed. It may have succeeded nevertheless.
  bool timedOut() const { return timedOut_; }

  Waiter waiter;

 protected:
  ~Operation() = default;

 private:
  friend class Loop;
  int32_t result_ = 0;  // as the system call's, negative errno
  uint32_t flags_ = 0;  // IORING_CQE_F_...
  bool pending_ = false;
  bool timedOut_ = false;
};

}  // namespace kveil::io
