#include "keys/service/confirmations.h"

#include <gtest/gtest.h>

namespace kveil::keys {
namespace {

TEST(ConfirmationsTest, AreOfWhatEveryCacheHasDropped) {
  Confirmations confirmations(7);
  EXPECT_EQ(confirmations.confirmed(), 7);
  confirmations.Told(7, 1);
  EXPECT_FALSE(confirmations.isWaiting());
  confirmations.Told(9, 2);
  confirmations.Told(12, 3);
  EXPECT_FALSE(confirmations.TakenIn(1));
  EXPECT_EQ(confirmations.confirmed(), 7);
  EXPECT_TRUE(confirmations.TakenIn(2));
  EXPECT_EQ(confirmations.confirmed(), 9);
  EXPECT_TRUE(confirmations.TakenIn(9));
  EXPECT_EQ(confirmations.confirmed(), 12);
  EXPECT_FALSE(confirmations.isWaiting());
}

TEST(ConfirmationsTest, ComeForwardHoweverFastErasuresCome) {
  Confirmations confirmations(0);
  uint64_t generation = 0;
  for (int64_t number = 1; number < 1000; ++number) confirmations.Told(number, ++generation);
  EXPECT_TRUE(confirmations.TakenIn(1));
  EXPECT_EQ(confirmations.confirmed(), 1);
  EXPECT_TRUE(confirmations.TakenIn(generation));
  EXPECT_EQ(confirmations.confirmed(), 999);
}

TEST(ConfirmationsTest, OfNumbersThatARestoredRegistryGivesAgainAreTakenBack) {
  Confirmations confirmations(100);
  confirmations.Told(110, 5);
  confirmations.Told(50, 6);
  EXPECT_EQ(confirmations.confirmed(), 50);
  confirmations.Told(51, 7);
  confirmations.TakenIn(6);
  EXPECT_EQ(confirmations.confirmed(), 50);
  confirmations.TakenIn(7);
  EXPECT_EQ(confirmations.confirmed(), 51);
}

// A registry that was restored, or another server: the same numbers are of other erasures there.
TEST(ConfirmationsTest, NothingIsConfirmedToARegistryThatIsOpenedAnewUntilAllIsDropped) {
  for (const int64_t number : {90, 100, 110}) {
    Confirmations confirmations(100);
    confirmations.Told(101, 1);
    confirmations.Reopened(number, 2);
    EXPECT_EQ(confirmations.confirmed(), 0);
    EXPECT_FALSE(confirmations.TakenIn(1)) << "what was told before the reopening counts no more";
    EXPECT_EQ(confirmations.confirmed(), 0);
    confirmations.Told(number, 2);
    EXPECT_TRUE(confirmations.TakenIn(2));
    EXPECT_EQ(confirmations.confirmed(), number);
  }
}

}  // namespace
}  // namespace kveil::keys
