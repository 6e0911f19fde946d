#include "keys/service/trial_pace.h"

#include <gtest/gtest.h>

namespace kveil::keys {
namespace {

using std::chrono::seconds;

TEST(TrialPaceTest, SlowsDownWhileAllIsWellAndIsQuickWhenSomethingIsNot) {
  TrialPace::Time now{};
  TrialPace pace(now);
  // Looks every second, as the service does; returns how long until the next trial.
  const auto next = [&](bool isWell) {
    seconds waited{0};
    do {
      now += seconds(1);
      waited += seconds(1);
    } while (!pace.IsDue(now, isWell));
    pace.Begin(now, isWell);
    return waited;
  };
  for (const int expected : {10, 20, 40, 80, 160, 300, 300}) EXPECT_EQ(next(true), seconds(expected));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(next(false), seconds(1));
  EXPECT_EQ(next(true), seconds(10));
  EXPECT_EQ(next(true), seconds(20));
  // A day costs 290 requests, where one every 10 s would be 8,640.
  int trials = 0;
  for (const auto end = now + std::chrono::hours(24); now < end; ++trials) next(true);
  EXPECT_LT(trials, 300);
}

}  // namespace
}  // namespace kveil::keys
