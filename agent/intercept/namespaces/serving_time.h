// The agent's time that serving the namespaces of each workload has taken, and who therefore has to wait.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "base/expiring_map.h"

namespace kveil::intercept {

// Serving a namespace forks a process, and whoever makes namespaces decides how often that is tried. So each share has
// a burst, and beyond that at most one eleventh of one thread. One thread only.
class ServingTime {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr std::chrono::milliseconds kBurst{250};
  static constexpr int kPrice = 11;  // what each second spent takes to be paid back, in seconds

  // From when on the agent may spend time for this share. It is in the past where that is at once: kPrice times what is
  // left of the burst ago, or longer.
  Clock::time_point TurnOf(const std::string& share, Clock::time_point now);
  bool HasTurn(const std::string& share, Clock::time_point now) { return TurnOf(share, now) <= now; }
  // The time from `start` to `end` went to this share.
  void Charge(const std::string& share, Clock::time_point start, Clock::time_point end);

  // Charges what happens during its life.
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
  // A machine that stood still must not cost a workload minutes.
  static constexpr std::chrono::seconds kMostAtOnce{1};
  // Longer than what is owed for kMostAtOnce. A share that is forgotten before has one more burst.
  static constexpr std::chrono::minutes kRemembered{1};
  static constexpr size_t kMostShares = 4096;

  ExpiringMap<std::string, Clock::time_point> paidBackAt_{kMostShares, kRemembered};
};

}  // namespace kveil::intercept
