// Lets a coroutine wait for work that another thread does.
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "io/loop.h"
#include "io/ready_queue.h"

namespace kveil::io {

// Calls `start` on the loop's thread with a callback, which must be called exactly once, on any thread, with the
// result.
//
//   auto start = [&](absl::AnyInvocable<void(int)> done) { Compute(std::move(done)); };
//   auto waiting = io::AwaitCallback<int>(loop, std::move(start));
//   const int result = co_await std::move(waiting);
template <typename T, typename Start>
class CallbackAwaiter {
 public:
  CallbackAwaiter(Loop& loop, Start start) : loop_(loop), start_(std::move(start)) {}
  CallbackAwaiter(CallbackAwaiter&&) = default;

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) {
    waiter_.coroutine = coroutine;
    // This awaiter stays in the suspended coroutine until the posted function has run.
    start_(absl::AnyInvocable<void(T)>([this](T value) {
      loop_.Post([this, value = std::move(value)]() mutable {
        value_.emplace(std::move(value));
        ReadyQueue::Current().Push(waiter_);
      });
    }));
  }
  T await_resume() { return *std::move(value_); }

 private:
  Loop& loop_;
  Start start_;
  std::optional<T> value_;
  Waiter waiter_;
};

template <typename T, typename Start>
CallbackAwaiter<T, Start> AwaitCallback(Loop& loop, Start start) {
  return CallbackAwaiter<T, Start>(loop, std::move(start));
}

}  // namespace kveil::io
