// How often the agent looks at itself.
#include "daemon/self_checks.h"

#include <gtest/gtest.h>

namespace kveil::daemon {
namespace {

using std::chrono::milliseconds;

TEST(PaceTest, BeginsOnceASecondHoweverOftenItIsAskedFor) {
  Pace pace(std::chrono::seconds(1));
  const Pace::Clock::time_point start(std::chrono::hours(1));
  for (int i = 0; i < 5000; ++i) (void)pace.MayBegin(start + i * milliseconds(1));
  EXPECT_EQ(pace.count(), 5u);
}

TEST(PaceTest, BeginsAtOnceAndWheneverASecondHasPassed) {
  Pace pace(std::chrono::seconds(1));
  const Pace::Clock::time_point start{};
  EXPECT_TRUE(pace.MayBegin(start));
  EXPECT_FALSE(pace.MayBegin(start + milliseconds(999)));
  EXPECT_TRUE(pace.MayBegin(start + milliseconds(1000)));
  EXPECT_TRUE(pace.MayBegin(start + milliseconds(2001)));
}

}  // namespace
}  // namespace kveil::daemon
