#include "keys/service/confirmations.h"

#include <gtest/gtest.h>

namespace kveil::keys {
namespace {

TEST(ConfirmationsTest, ConfirmsWhatAllCachesHaveDropped) {
  Confirmations confirmations(5);
  EXPECT_EQ(confirmations.confirmed(), 5);
  confirmations.Told(6, 1);
  confirmations.Told(8, 2);
  EXPECT_FALSE(confirmations.TakenIn(0));
  EXPECT_EQ(confirmations.confirmed(), 5);
  EXPECT_TRUE(confirmations.TakenIn(1));
  EXPECT_EQ(confirmations.confirmed(), 6);
  EXPECT_TRUE(confirmations.TakenIn(2));
  EXPECT_EQ(confirmations.confirmed(), 8);
  EXPECT_FALSE(confirmations.isWaiting());
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
