// A coroutine that another coroutine awaits.
//
//   io::Task<absl::Status> Greet(io::Socket& socket);
//   auto greeting = Greet(socket);                       // nothing has run yet
//   absl::Status status = co_await std::move(greeting);  // runs now; resumes here when it is done
//
// Use two statements, as above: gcc 12 destroys some temporaries twice inside an expression with co_await (gcc PR 95599
// and others). scripts/check-coroutines rejects the forms known to fail.
//
// A task that completes without waiting costs no suspension: its awaiter runs it inline and continues. If it did wait,
// its end makes the loop resume the awaiter next. In neither case does a task resume its awaiter from inside itself, so
// loops over any number of tasks use no stack. (Symmetric transfer is no tail call in debug and sanitizer builds.)
//
// Destroying a suspended task ends the process, because the kernel may be writing to its frame.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "io/bug.h"
#include "io/frame_pool.h"
#include "io/ready_queue.h"

namespace kveil::io {

template <typename T>
class Task;

namespace internal {

class PromiseBase {
 public:
  static void* operator new(size_t size) { return AllocateFrame(size); }
  static void operator delete(void* frame, size_t size) noexcept { FreeFrame(frame, size); }

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
      if (self.promise().waiting_) ReadyQueue::Current().SetNext(self.promise().waiting_);
    }
    void await_resume() noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }
  // No code in the agent throws across a folder's boundary: an exception here is a bug.
  void unhandled_exception() noexcept { std::terminate(); }

  void SetWaiting(std::coroutine_handle<> waiting) { waiting_ = waiting; }

 private:
  std::coroutine_handle<> waiting_;
};

template <typename T>
class Promise : public PromiseBase {
 public:
  Task<T> get_return_object();
  template <typename Value>
  void return_value(Value&& value) {
    value_.emplace(std::forward<Value>(value));
  }
  T Take() { return *std::move(value_); }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> : public PromiseBase {
 public:
  Task<void> get_return_object();
  void return_void() {}
  void Take() {}
};

}  // namespace internal

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;

  Task(Task&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), started_(std::exchange(other.started_, false)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (!handle_) return;
    internal::Require(!started_ || handle_.done(), "a task was destroyed while it waited for something");
    handle_.destroy();
  }

  // Runs the task up to its first wait. It must still be awaited later.
  void Start() {
    internal::Require(!started_, "a task was started twice");
    started_ = true;
    handle_.resume();
  }

  bool await_ready() const { return started_ && handle_.done(); }
  bool await_suspend(std::coroutine_handle<> waiting) {
    if (!started_) {
      Start();
      if (handle_.done()) return false;
    }
    handle_.promise().SetWaiting(waiting);
    return true;
  }
  T await_resume() { return handle_.promise().Take(); }

 private:
  friend promise_type;
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}

  std::coroutine_handle<promise_type> handle_;
  bool started_ = false;
};

namespace internal {

template <typename T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

}  // namespace internal
}  // namespace kveil::io
