// Who is served when: a workload with much to ask waits for itself, not the others for it.
#include "keys/service/fair_queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace kveil::keys {
namespace {

TEST(FairQueueTest, GivesEachWorkloadItsTurnAndKeepsTheOrderWithinEach) {
  FairQueue<int> queue;
  for (int i = 1; i <= 5; ++i) queue.Push("many", i);
  queue.Push("few", 10);
  queue.Push("few", 11);
  queue.Push("one", 20);
  std::vector<int> order;
  while (!queue.empty()) order.push_back(queue.Pop());
  EXPECT_EQ(order, (std::vector<int>{1, 10, 20, 2, 11, 3, 4, 5}));
}

TEST(FairQueueTest, PutsAWorkloadThatComesAgainBehindThoseThatWait) {
  FairQueue<int> queue;
  queue.Push("a", 1);
  queue.Push("a", 2);
  queue.Push("b", 3);
  EXPECT_EQ(queue.Pop(), 1);
  queue.Push("c", 4);
  EXPECT_EQ(queue.Pop(), 3);
  queue.Push("b", 5);
  EXPECT_EQ(queue.Pop(), 2);
  EXPECT_EQ(queue.Pop(), 4);
  EXPECT_EQ(queue.Pop(), 5);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace kveil::keys
