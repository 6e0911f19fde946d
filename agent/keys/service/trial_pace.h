// How often the epoch keys are unwrapped again, to see that a remote root key still does it.
#pragma once

#include <algorithm>
#include <chrono>

namespace kveil::keys {

// Each trial costs a request, and some providers bill it. So while all is well, the time to the next one doubles, and
// it is short again when something is not.
class TrialPace {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kFirst{10};
  static constexpr std::chrono::seconds kLongest{300};
  // How soon what could not be unwrapped is asked for again.
  static constexpr std::chrono::seconds kAfterFailure{1};

  // `now`: of the unwrapping at the start.
  explicit TrialPace(Time now) : begun_(now) {}

  bool IsDue(Time now, bool isWell) const { return now - begun_ >= (isWell ? interval_ : kAfterFailure); }
  // A trial was begun. `isWell`: what was known before it.
  void Begin(Time now, bool isWell) {
    begun_ = now;
    interval_ = isWell ? std::min(2 * interval_, kLongest) : kFirst;
  }

 private:
  Time begun_;
  std::chrono::seconds interval_ = kFirst;
};

}  // namespace kveil::keys
