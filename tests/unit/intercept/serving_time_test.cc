// How much of the agent's time one workload's namespaces get.
#include "intercept/namespaces/serving_time.h"

#include <gtest/gtest.h>

namespace kveil::intercept {
namespace {

using Clock = ServingTime::Clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kAttempt(5);

class ServingTimeTest : public testing::Test {
 protected:
  // Attempts one after the other for `duration`, whenever it is the share's turn; returns the time spent.
  Clock::duration SpendAll(const std::string& share, Clock::duration duration) {
    Clock::duration spent{};
    for (const Clock::time_point end = now + duration; now < end;) {
      if (!time.HasTurn(share, now)) {
        now += milliseconds(1);
        continue;
      }
      time.Charge(share, now, now + kAttempt);
      now += kAttempt;
      spent += kAttempt;
    }
    return spent;
  }

  ServingTime time;
  Clock::time_point now = Clock::time_point(std::chrono::hours(1));
};

TEST_F(ServingTimeTest, ShareThatSpentNothingHasItsTurnAtOnce) { EXPECT_TRUE(time.HasTurn("/a", now)); }

TEST_F(ServingTimeTest, TurnSaysHowMuchOfTheBurstIsLeft) {
  EXPECT_EQ(time.TurnOf("/a", now), now - ServingTime::kPrice * ServingTime::kBurst);
  time.Charge("/a", now, now + ServingTime::kBurst / 2);
  EXPECT_EQ(time.TurnOf("/a", now), now - ServingTime::kPrice * ServingTime::kBurst / 2);
}

TEST_F(ServingTimeTest, BurstComesAtOnce) {
  const Clock::duration spent = SpendAll("/a", milliseconds(300));
  EXPECT_GE(spent, ServingTime::kBurst);
  EXPECT_LE(spent, milliseconds(290));
  EXPECT_FALSE(time.HasTurn("/a", now));
}

TEST_F(ServingTimeTest, BeyondTheBurstAnEleventhIsLeft) {
  (void)SpendAll("/a", milliseconds(300));
  const Clock::duration spent = SpendAll("/a", seconds(110));
  EXPECT_GE(spent, milliseconds(9900));
  EXPECT_LE(spent, milliseconds(10100));
}

TEST_F(ServingTimeTest, TurnComesWhenItSays) {
  (void)SpendAll("/a", milliseconds(300));
  const Clock::time_point turn = time.TurnOf("/a", now);
  EXPECT_GT(turn, now);
  EXPECT_FALSE(time.HasTurn("/a", turn - milliseconds(1)));
  EXPECT_TRUE(time.HasTurn("/a", turn));
}

TEST_F(ServingTimeTest, OtherSharesDoNotWait) {
  (void)SpendAll("/a", seconds(5));
  EXPECT_TRUE(time.HasTurn("/b", now));
  EXPECT_GE(SpendAll("/b", milliseconds(300)), ServingTime::kBurst);
}

TEST_F(ServingTimeTest, BurstIsThereAgainAfterARest) {
  (void)SpendAll("/a", seconds(5));
  now += seconds(3);
  EXPECT_GE(SpendAll("/a", milliseconds(300)), milliseconds(245));
  now += std::chrono::hours(1);
  EXPECT_LE(SpendAll("/a", milliseconds(300)), milliseconds(290)) << "a long rest gives no more";
}

TEST_F(ServingTimeTest, MachineThatStoodStillCostsSecondsAndNotMinutes) {
  time.Charge("/a", now, now + seconds(100));
  now += seconds(100);
  EXPECT_TRUE(time.HasTurn("/a", now));
  time.Charge("/b", now, now + milliseconds(1));
  time.Charge("/b", now, now + seconds(100));
  EXPECT_TRUE(time.HasTurn("/b", now + seconds(10)));
}

TEST_F(ServingTimeTest, PieceIsChargedWhenItEnds) {
  now = Clock::now();
  time.Charge("/a", now - ServingTime::kBurst, now);
  const Clock::time_point before = time.TurnOf("/a", now);
  {
    const ServingTime::Piece piece(time, "/a");
    const Clock::time_point start = Clock::now();
    while (Clock::now() < start + milliseconds(2)) continue;
  }
  EXPECT_GE(time.TurnOf("/a", Clock::now()), before + milliseconds(22));
}

}  // namespace
}  // namespace kveil::intercept
