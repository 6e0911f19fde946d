// Lists of suspended coroutines, and the thread's queue of those that are ready, which its loop resumes.
//
// The links are in the awaiters, which live in the frames of the suspended coroutines, so waiting allocates nothing.
#pragma once

#include <coroutine>
#include <cstddef>
#include <utility>

namespace kveil::io {

// A suspended coroutine, in at most one list at a time.
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
  // Removes and returns the one that has waited longest, or nullptr.
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

  // The calling thread's.
  static ReadyQueue& Current();

  // Makes the coroutine ready. It resumes when its turn comes, never from here.
  void Push(Waiter& waiter) { ready_.Push(waiter); }
  bool empty() const { return ready_.empty(); }

  // Resumes the coroutine as soon as the running one has ended, ahead of the queue and not nested in it.
  void SetNext(std::coroutine_handle<> coroutine) { next_ = coroutine; }

  // Resumes coroutines until none is ready, or `limit` from the queue have been resumed.
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
