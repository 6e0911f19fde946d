// Suspended coroutines: the lists they wait in, and the list of those that may go on, which the thread's loop resumes.
//
// The links are inside the awaiters, which live in the frames of the suspended coroutines: waiting allocates nothing.
#pragma once

#include <coroutine>
#include <cstddef>
#include <utility>

namespace kveil::io {

// One suspended coroutine. In at most one list at a time.
struct Waiter {
  std::coroutine_handle<> coroutine;
  Waiter* next = nullptr;
};

// First in, first out.
class WaiterList {
 public:
  constexpr WaiterList() = default;
  WaiterList(const WaiterList&) = delete;
  WaiterList& operator=(const WaiterList&) = delete;

  bool empty() const { return first_ == nullptr; }
  void Push(Waiter& waiter) {
    waiter.next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = &waiter;
    last_ = &waiter;
  }
  // The one that has waited longest, or nullptr.
  Waiter* Pop() {
    Waiter* const popped = first_;
    if (popped == nullptr) return nullptr;
    first_ = popped->next;
    if (first_ == nullptr) last_ = nullptr;
    return popped;
  }

 private:
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

class ReadyQueue {
 public:
  constexpr ReadyQueue() = default;

  // This thread's.
  static ReadyQueue& Current();

  // Lets the coroutine go on when its turn comes; never resumes it from here.
  void Push(Waiter& waiter) { ready_.Push(waiter); }
  bool empty() const { return ready_.empty(); }

  // Lets the coroutine go on as soon as the one that runs now has ended, ahead of the queue and without nesting in it.
  void SetNext(std::coroutine_handle<> coroutine) { next_ = coroutine; }

  // Resumes coroutines until none is ready or `limit` have been.
  void Run(size_t limit) {
    for (size_t resumed = 0; resumed < limit; ++resumed) {
      Waiter* const waiter = ready_.Pop();
      if (waiter == nullptr) return;
      std::coroutine_handle<> coroutine = std::exchange(waiter->coroutine, nullptr);
      while (coroutine) {
        coroutine.resume();
        coroutine = std::exchange(next_, nullptr);
      }
    }
  }

 private:
  WaiterList ready_;
  std::coroutine_handle<> next_;
};

namespace internal {
inline constinit thread_local ReadyQueue currentReadyQueue;
}  // namespace internal

inline ReadyQueue& ReadyQueue::Current() { return internal::currentReadyQueue; }

}  // namespace kveil::io
