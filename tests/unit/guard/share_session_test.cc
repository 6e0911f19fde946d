// What is remembered of a share session is bounded and charged.
#include "guard/apis/share_session.h"

#include <gtest/gtest.h>

namespace kveil::guard {
namespace {

ShareSession::Partition PartitionOf(int32_t index) {
  kafka::TopicId id;
  id.bytes[0] = 1;
  return {id, index};
}

TEST(ShareSessionTest, RemembersWhatFewPartitionsNeedWithoutAskingForRoom) {
  proxy::MemoryBudget budget(0);
  ShareSession session("/shop");
  session.Begin(budget);
  for (int32_t i = 0; i < 100; ++i) session.Tell(PartitionOf(i), 1);
  EXPECT_EQ(session.size(), 100u);
}

TEST(ShareSessionTest, RemembersNoMoreThanThereIsRoomFor) {
  proxy::MemoryBudget budget(64 << 10);
  ShareSession session("/shop");
  session.Begin(budget);
  for (int32_t i = 0; i < 10'000; ++i) session.Withhold(PartitionOf(i), 1);
  EXPECT_LT(session.size(), 1'000u);
  EXPECT_LE(budget.used(), budget.limit() / 8);
}

TEST(ShareSessionTest, ChargesWhatItRemembersUntilItEnds) {
  proxy::MemoryBudget budget(64 << 20);
  {
    ShareSession session("/shop");
    for (int round = 0; round < 2; ++round) {
      session.Begin(budget);
      for (int32_t i = 0; i < 10'000; ++i) {
        session.Ask(PartitionOf(i).first);
        session.Tell(PartitionOf(2 * i), 1);
        session.Withhold(PartitionOf(2 * i + 1), 1);
      }
      EXPECT_EQ(session.size(), ShareSession::kMost);
      EXPECT_GT(budget.used(), 100u << 10);
      if (round == 1) break;
      session.Clear();
      EXPECT_EQ(budget.used(), 0u);
    }
  }
  EXPECT_EQ(budget.used(), 0u);
}

}  // namespace
}  // namespace kveil::guard
