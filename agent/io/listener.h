// A listening socket of one loop.
#pragma once

#include <chrono>
#include <deque>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "io/event.h"
#include "io/loop.h"
#include "io/operation.h"
#include "io/task.h"

namespace kveil::io {

class Listener {
 public:
  Listener(Loop& loop, UniqueFd fd);
  // It must have been closed, or never used.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // The next connection; its descriptor is close-on-exec. One coroutine at a time. kResourceExhausted: no descriptor or
  // memory is left. kUnavailable: accepting failed for another reason. After either, call again: it waits briefly
  // before it retries. kCancelled.
  Task<absl::StatusOr<UniqueFd>> Accept();

  void Cancel();
  // Cancels, waits until the kernel is done, and closes. Resets connections that were not taken.
  Task<void> Close();

 private:
  // A multishot accept: one request for all connections to come, until the kernel ends it.
  class AcceptOperation final : public Operation {
   public:
    explicit AcceptOperation(Listener& listener) : listener_(listener) {}
    void Prepare(io_uring_sqe& entry) override;
    bool OnCompletion() override;
    void OnEnd() override { listener_.changed_.Set(); }

   private:
    Listener& listener_;
  };

  absl::Status TakeError();

  Loop& loop_;
  UniqueFd fd_;
  bool cancelled_ = false;
  bool accepting_ = false;
  AcceptOperation accept_{*this};
  Event changed_;
  std::deque<UniqueFd> accepted_;
  int error_ = 0;  // errno, not reported yet
  Deadline retryAt_ = Deadline::min();
};

}  // namespace kveil::io
