// Bounds what the search for topics' entries takes of a worker, by workload. Names come from clients, and of names that
// were not looked for before, each of a policy's patterns may take a millisecond.
//
//   io::Turn turn(loop);
//   for (each topic) {
//     co_await pace.Pause(share, turn, waitedAt);
//     std::chrono::nanoseconds searched{};
//     policies.Find(topic, &searched);
//     pace.Charge(share, searched);
//   }
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "io/loop.h"
#include "io/turn.h"

namespace kveil::guard {

// On the worker's thread.
class SearchPace {
 public:
  using Clock = std::chrono::steady_clock;
  // A workload's searches take one part in so many of the worker's time,
  static constexpr int kParts = 10;
  // and whoever has searched little does not wait: so long would the wait be at most.
  static constexpr std::chrono::milliseconds kFree{20};
  // Searches that take less cost no more than what else is done for a name.
  static constexpr std::chrono::microseconds kCheap{2};

  // `share`: the workload's (identity::Workload::share).
  void Charge(const std::string& share, std::chrono::nanoseconds searched, Clock::time_point now = Clock::now()) {
    if (searched < kCheap) return;
    if (paidAt_.size() >= kSwept) absl::erase_if(paidAt_, [&](const auto& entry) { return entry.second <= now; });
    Clock::time_point& paidAt = paidAt_[share];
    paidAt = std::max(paidAt, now) + (kParts - 1) * searched;
  }
  // How long the workload has to wait before its next search. Mostly 0.
  std::chrono::nanoseconds WaitOf(const std::string& share, Clock::time_point now = Clock::now()) {
    const auto found = paidAt_.find(share);
    if (found == paidAt_.end()) return {};
    const std::chrono::nanoseconds wait = found->second - now;
    if (wait.count() <= 0) paidAt_.erase(found);
    return wait > kFree ? wait : std::chrono::nanoseconds();
  }

  // When a workload had to wait last.
  using WaitedAt = std::atomic<Clock::duration>;

  // As turn.Pause(), but waits where the workload has to, and notes when.
  class Awaiter {
   public:
    Awaiter(io::Turn& turn, std::chrono::nanoseconds wait, WaitedAt& waitedAt)
        : turn_(turn),
          waits_(wait.count() > 0),
          pausing_(turn.Pause()),
          sleeping_(turn.loop().Sleep(wait)),
          waitedAt_(waitedAt) {}
    bool await_ready() const { return !waits_ && pausing_.await_ready(); }
    void await_suspend(std::coroutine_handle<> coroutine) {
      if (waits_) return sleeping_.await_suspend(coroutine);
      pausing_.await_suspend(coroutine);
    }
    void await_resume() {
      if (!waits_) return pausing_.await_resume();
      turn_.Begin();
      waitedAt_.store(Clock::now().time_since_epoch(), std::memory_order_relaxed);
    }

   private:
    io::Turn& turn_;
    const bool waits_;
    io::Turn::Awaiter pausing_;
    io::Loop::SleepAwaiter sleeping_;
    WaitedAt& waitedAt_;
  };
  Awaiter Pause(const std::string& share, io::Turn& turn, WaitedAt& waitedAt) {
    return {turn, WaitOf(share), waitedAt};
  }

 private:
  static constexpr size_t kSwept = 1024;
  absl::flat_hash_map<std::string, Clock::time_point> paidAt_;  // by share: when it may search again
};

}  // namespace kveil::guard
