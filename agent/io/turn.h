// Long work in steps, so that one connection does not hold up the others of its worker.
//
//   turn.Begin();
//   for (each step) {
//     co_await turn.Pause();   // continues at once until the time is up
//     ...
//   }
#pragma once

#include <chrono>
#include <coroutine>

#include "io/loop.h"

namespace kveil::io {

class Turn {
 public:
  // Long compared with the cost of a pause (about a microsecond), too short for anybody to notice.
  static constexpr std::chrono::milliseconds kLength{2};

  explicit Turn(Loop& loop) : loop_(loop) { Begin(); }

  Loop& loop() const { return loop_; }
  void Begin() { began_ = std::chrono::steady_clock::now(); }

  class Awaiter {
   public:
    explicit Awaiter(Turn& turn) : turn_(turn), yielding_(turn.loop_) {}
    bool await_ready() const { return std::chrono::steady_clock::now() - turn_.began_ < kLength; }
    void await_suspend(std::coroutine_handle<> coroutine) {
      paused_ = true;
      yielding_.await_suspend(coroutine);
    }
    void await_resume() {
      if (paused_) turn_.Begin();
    }

   private:
    Turn& turn_;
    Loop::YieldAwaiter yielding_;
    bool paused_ = false;
  };
  Awaiter Pause() { return Awaiter(*this); }

 private:
  Loop& loop_;
  std::chrono::steady_clock::time_point began_;
};

}  // namespace kveil::io
