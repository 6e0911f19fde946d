#include "proxy/workload_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace kveil::proxy {
namespace {

// Each takes one after the other for as long as it may.
std::vector<size_t> TakenBy(size_t workloads, size_t all) {
  std::vector<size_t> has(workloads);
  for (bool took = true; took;) {
    took = false;
    for (size_t& own : has) {
      const size_t free = all - std::accumulate(has.begin(), has.end(), size_t{0});
      if (free == 0 || !IsWithinShare(own, 1, free)) continue;
      ++own;
      took = true;
    }
  }
  return has;
}

TEST(WorkloadShareTest, OneGetsFourFifths) { EXPECT_EQ(TakenBy(1, 10'000), std::vector<size_t>{8000}); }

TEST(WorkloadShareTest, ManyGetTheSameAndLeaveSomethingForTheNextOne) {
  for (const size_t workloads : {2u, 3u, 10u, 100u}) {
    const std::vector<size_t> has = TakenBy(workloads, 100'000);
    EXPECT_LE(*std::max_element(has.begin(), has.end()) - *std::min_element(has.begin(), has.end()), 1u);
    const size_t left = 100'000 - std::accumulate(has.begin(), has.end(), size_t{0});
    EXPECT_GE(left, 100'000 / (4 * workloads + 1) - 1) << workloads;
  }
}

TEST(WorkloadShareTest, OfVeryLittleOneGetsAll) { EXPECT_EQ(TakenBy(1, 4), std::vector<size_t>{4}); }

}  // namespace
}  // namespace kveil::proxy
