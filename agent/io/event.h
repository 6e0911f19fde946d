// A flag that coroutines of one thread can wait for.
#pragma once

#include <coroutine>

#include "io/ready_queue.h"

namespace kveil::io {

// Stays set until Reset. A coroutine that waited when it was set resumes even if Reset comes before its turn.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void Set() {
    set_ = true;
    while (Waiter* const waiter = waiters_.Pop()) ReadyQueue::Current().Push(*waiter);
  }
  void Reset() { set_ = false; }
  bool IsSet() const { return set_; }

  class Awaiter {
   public:
    explicit Awaiter(Event& event) : event_(event) {}
    bool await_ready() const { return event_.set_; }
    void await_suspend(std::coroutine_handle<> coroutine) {
      waiter_.coroutine = coroutine;
      event_.waiters_.Push(waiter_);
    }
    void await_resume() {}

   private:
    Event& event_;
    Waiter waiter_;
  };
  Awaiter Wait() { return Awaiter(*this); }

 private:
  bool set_ = false;
  WaiterList waiters_;
};

}  // namespace kveil::io
