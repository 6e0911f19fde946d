// Counts durations in memory that does not grow, each within 1/128 of its size: the layout of HdrHistogram
// (http://hdrhistogram.org), whose C library Debian 12 does not have.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kveil::load {

class Histogram {
 public:
  // Negative durations count as 0.
  void Record(std::chrono::nanoseconds duration);

  uint64_t count() const { return count_; }
  std::chrono::nanoseconds max() const { return max_; }  // exact; 0 when nothing was recorded
  // What that part (0 to 1) of the durations does not exceed, at most 1/128 too large; 0 when nothing was recorded.
  std::chrono::nanoseconds Quantile(double part) const;

 private:
  // Below 256 each nanosecond has a place; above, each power of two has 128 of them.
  static constexpr int kBits = 7;
  static constexpr size_t kPlaces = size_t{64 - kBits + 1} << kBits;
  static size_t PlaceOf(uint64_t nanoseconds);
  static uint64_t MostAt(size_t place);

  std::vector<uint64_t> counts_ = std::vector<uint64_t>(kPlaces);
  uint64_t count_ = 0;
  std::chrono::nanoseconds max_{0};
};

}  // namespace kveil::load
