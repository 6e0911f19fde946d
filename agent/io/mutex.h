// A lock for coroutines of one thread, first come first served.
#pragma once

#include <coroutine>
#include <utility>

#include "io/ready_queue.h"

namespace kveil::io {

//   auto lock = co_await mutex.Lock();   // does not suspend if the mutex is free; held until `lock` is destroyed
class Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  class [[nodiscard]] Holder {
   public:
    explicit Holder(Mutex& mutex) : mutex_(&mutex) {}
    Holder(Holder&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Holder& operator=(Holder&&) = delete;
    ~Holder() {
      if (mutex_ != nullptr) mutex_->Unlock();
    }

   private:
    Mutex* mutex_;
  };

  class Awaiter {
   public:
    explicit Awaiter(Mutex& mutex) : mutex_(mutex) {}
    bool await_ready() {
      if (mutex_.held_) return false;
      mutex_.held_ = true;
      return true;
    }
    void await_suspend(std::coroutine_handle<> coroutine) {
      waiter_.coroutine = coroutine;
      mutex_.waiters_.Push(waiter_);
    }
    Holder await_resume() { return Holder(mutex_); }

   private:
    Mutex& mutex_;
    Waiter waiter_;
  };
  Awaiter Lock() { return Awaiter(*this); }

 private:
  // Hands the lock to the first waiter, if any. It stays held meanwhile, so nobody can overtake.
  void Unlock() {
    if (Waiter* const next = waiters_.Pop()) {
      ReadyQueue::Current().Push(*next);
    } else {
      held_ = false;
    }
  }

  bool held_ = false;
  WaiterList waiters_;
};

}  // namespace kveil::io
