#include "proxy/workload_shares.h"

#include <gtest/gtest.h>

namespace kveil::proxy {
namespace {

// Workloads come and go.
TEST(WorkloadSharesTest, CountsNobodyWhoHoldsNothing) {
  WorkloadShares shares(2);
  const WorkloadShares::Share first = shares.Take("/shop");
  WorkloadShares::Share second = shares.Take("/shop");
  EXPECT_EQ(shares.Take("/shop"), nullptr);
  for (int i = 0; i < 100'000; ++i) EXPECT_NE(shares.Take(std::to_string(i)), nullptr);
  EXPECT_LT(shares.size(), 3000u);
  EXPECT_EQ(shares.Take("/shop"), nullptr) << "forgotten though it holds two";
  second.reset();
  EXPECT_NE(shares.Take("/shop"), nullptr);
}

}  // namespace
}  // namespace kveil::proxy
