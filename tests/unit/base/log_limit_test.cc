#include "base/log_limit.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace kveil::log {
namespace {

using std::chrono::seconds;

class LineLimitTest : public testing::Test {
 protected:
  // How many of so many lines at this moment are admitted.
  int Admitted(int lines, std::string_view event, std::string_view workload) {
    int admitted = 0;
    for (int i = 0; i < lines; ++i) admitted += limit_.Admit(event, workload, now_);
    return admitted;
  }

  LineLimit limit_{{.ofEvent = {100, 10}, .ofWorkload = {20, 2}, .mostWorkloads = 4}};
  LineLimit::Clock::time_point now_ = LineLimit::Clock::now();
};

TEST_F(LineLimitTest, AWorkloadThatCausesManyLinesTakesNoneOfTheOthers) {
  EXPECT_EQ(Admitted(1000, "connection.closed", "loud"), 20);
  EXPECT_EQ(Admitted(20, "connection.closed", "quiet"), 20);
  EXPECT_EQ(Admitted(20, "produce.refused", "loud"), 20) << "another event";
}

TEST_F(LineLimitTest, AnEventHasALimitOverAllWorkloads) {
  EXPECT_EQ(Admitted(1000, "connection.rejected", ""), 100);
  EXPECT_EQ(Admitted(1, "connection.rejected", "quiet"), 0);
  EXPECT_EQ(Admitted(1, "health.problem", ""), 1);
}

TEST_F(LineLimitTest, LinesComeBackWithTime) {
  Admitted(1000, "connection.closed", "loud");
  now_ += seconds(3);
  EXPECT_EQ(Admitted(1000, "connection.closed", "loud"), 6);
  now_ += seconds(3600);
  EXPECT_EQ(Admitted(1000, "connection.closed", "loud"), 20) << "never more than a burst";
}

TEST_F(LineLimitTest, WhatIsRefusedIsToldOnceAnEventWithItsWorkload) {
  Admitted(25, "connection.closed", "loud");
  const auto suppressed = limit_.TakeSuppressed();
  ASSERT_EQ(suppressed.size(), 1u);
  EXPECT_EQ(suppressed[0].event, "connection.closed");
  EXPECT_EQ(suppressed[0].lines, 5u);
  EXPECT_EQ(suppressed[0].workload, "loud");
  EXPECT_TRUE(limit_.TakeSuppressed().empty());
  EXPECT_EQ(limit_.suppressed(), 5u);
}

TEST_F(LineLimitTest, WorkloadsBeyondItsMemoryShareOneLimit) {
  for (int i = 0; i < 4; ++i) Admitted(1, "connection.closed", StrCat("workload", i));
  int admitted = 0;
  for (int i = 4; i < 100; ++i) admitted += Admitted(1, "connection.closed", StrCat("workload", i));
  EXPECT_EQ(admitted, 20);
  now_ += seconds(60);
  EXPECT_EQ(Admitted(20, "connection.closed", "later"), 20) << "those that caused no more lines are forgotten";
}

}  // namespace
}  // namespace kveil::log
