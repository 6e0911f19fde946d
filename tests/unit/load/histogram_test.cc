#include "load/histogram.h"

#include <gtest/gtest.h>

namespace kveil::load {
namespace {

using std::chrono::nanoseconds;

TEST(HistogramTest, IsAtMostOne128thTooLarge) {
  for (int64_t value = 1; value < int64_t{1} << 50; value = value * 9 / 8 + 1) {
    Histogram histogram;
    histogram.Record(nanoseconds(value));
    histogram.Record(nanoseconds(2 * value));  // so that the largest, which is exact, is another
    const int64_t median = histogram.Quantile(0.5).count();
    EXPECT_GE(median, value);
    EXPECT_LE(median - value, value / 128) << value;
  }
}

TEST(HistogramTest, FindsQuantiles) {
  Histogram histogram;
  for (int64_t i = 1; i <= 1000; ++i) histogram.Record(nanoseconds(i * 1000));
  EXPECT_EQ(histogram.count(), 1000u);
  EXPECT_NEAR(static_cast<double>(histogram.Quantile(0.5).count()), 500e3, 500e3 / 128);
  EXPECT_NEAR(static_cast<double>(histogram.Quantile(0.99).count()), 990e3, 990e3 / 128);
  EXPECT_EQ(histogram.Quantile(1).count(), 1'000'000);
  EXPECT_EQ(histogram.max().count(), 1'000'000);
}

TEST(HistogramTest, TakesWhatIsOutOfTheOrdinary) {
  Histogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5).count(), 0);
  histogram.Record(nanoseconds(-5));
  EXPECT_EQ(histogram.Quantile(0).count(), 0);
  histogram.Record(nanoseconds::max());
  EXPECT_EQ(histogram.Quantile(1), nanoseconds::max());
}

}  // namespace
}  // namespace kveil::load
