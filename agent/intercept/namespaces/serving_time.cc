// A bucket per share: it holds a burst, and refills over time.
#include "intercept/namespaces/serving_time.h"

#include <algorithm>

namespace kveil::intercept {

ServingTime::Clock::time_point ServingTime::TurnOf(const std::string& share, Clock::time_point now) {
  const Clock::time_point* const paidBackAt = paidBackAt_.Find(share, now);
  return (paidBackAt == nullptr ? now : *paidBackAt) - kPrice * kBurst;
}

void ServingTime::Charge(const std::string& share, Clock::time_point start, Clock::time_point end) {
  const Clock::time_point* const owed = paidBackAt_.Find(share, start);
  const Clock::time_point from = owed == nullptr ? start : std::max(*owed, start);
  paidBackAt_.Put(share, from + kPrice * std::min<Clock::duration>(end - start, kMostAtOnce), end);
}

}  // namespace kveil::intercept
