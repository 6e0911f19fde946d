#include "load/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kveil::load {

void Histogram::Record(std::chrono::nanoseconds duration) {
  duration = std::max(duration, std::chrono::nanoseconds(0));
  ++counts_[PlaceOf(static_cast<uint64_t>(duration.count()))];
  ++count_;
  max_ = std::max(max_, duration);
}

std::chrono::nanoseconds Histogram::Quantile(double part) const {
  const auto wanted = static_cast<uint64_t>(std::ceil(part * static_cast<double>(count_)));
  uint64_t passed = 0;
  for (size_t place = 0; place < kPlaces; ++place) {
    passed += counts_[place];
    if (passed >= std::max<uint64_t>(wanted, 1)) {
      return std::min(max_, std::chrono::nanoseconds(static_cast<int64_t>(MostAt(place))));
    }
  }
  return max_;
}

size_t Histogram::PlaceOf(uint64_t nanoseconds) {
  const int shift = std::max(static_cast<int>(std::bit_width(nanoseconds)) - (kBits + 1), 0);
  return (static_cast<size_t>(shift) << kBits) + static_cast<size_t>(nanoseconds >> shift);
}

uint64_t Histogram::MostAt(size_t place) {
  const size_t shift = std::max<size_t>(place >> kBits, 1) - 1;
  const uint64_t first = place - (shift << kBits);
  return ((first + 1) << shift) - 1;
}

}  // namespace kveil::load
