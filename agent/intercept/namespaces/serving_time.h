// How much of the agent's time each workload's namespaces have taken, and who has to wait for that.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "base/expiring_map.h"

namespace kveil::intercept {

// Serving a namespace forks a process, and workloads decide how many namespaces they make. So each share has a burst,
// and beyond it at most one eleventh of one thread. For one thread.
class ServingTime {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr std::chrono::milliseconds kBurst{250};
  static constexpr int kPrice = 11;  // seconds that it takes to pay back one second

  // When the agent may next spend time on this share. In the past if it may now: by kPrice times what is left of the
  // burst, or by more.
  Clock::time_point TurnOf(const std::string& share, Clock::time_point now);
  bool HasTurn(const std::string& share, Clock::time_point now) { return TurnOf(share, now) <= now; }
  // Charges the share for the time from `start` to `end`.
  void Charge(const std::string& share, Clock::time_point start, Clock::time_point end);

  // Charges the share for the time that it lives.
  class Piece {
   public:
    Piece(ServingTime& time, std::string share) : time_(time), share_(std::move(share)) {}
    ~Piece() { time_.Charge(share_, start_, Clock::now()); }
    Piece(const Piece&) = delete;
    Piece& operator=(const Piece&) = delete;

   private:
    ServingTime& time_;
    const std::string share_;
    const Clock::time_point start_ = Clock::now();
  };

 private:
  // The most that is charged at once: a machine that stood still must not cost a workload minutes.
  static constexpr std::chrono::seconds kMostAtOnce{1};
  // Longer than it takes to pay back kMostAtOnce. A share that is forgotten earlier has one more burst.
  static constexpr std::chrono::minutes kRemembered{1};
  static constexpr size_t kMostShares = 4096;

  ExpiringMap<std::string, Clock::time_point> paidBackAt_{kMostShares, kRemembered};
};

}  // namespace kveil::intercept
