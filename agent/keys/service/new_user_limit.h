// How fast one workload may make keys of new users. Each costs about 250 bytes of disk for good, and a workload that
// makes users up can make up millions.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/expiring_map.h"
#include "base/text.h"

namespace kveil::keys {

// A workload's name in messages.
inline std::string_view NameOf(std::string_view workload) { return workload.empty() ? "(unknown)" : workload; }

// A token bucket per workload. Not thread-safe.
class NewUserLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Keys per second; the keys of ten seconds may be made at once.
  explicit NewUserLimit(size_t perSecond) : perSecond_(static_cast<double>(perSecond)) {}

  // Whether the workload may make one more key now. Then it counts as made.
  bool Take(std::string_view workload, Time now) {
    Bucket bucket{kSecondsAtOnce * perSecond_, now};
    if (const Bucket* known = buckets_.Find(ToAbsl(workload), now)) bucket = *known;
    const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
    bucket.keys = std::min(kSecondsAtOnce * perSecond_, bucket.keys + seconds * perSecond_);
    bucket.filled = now;
    const bool may = bucket.keys >= 1;
    if (may) bucket.keys -= 1;
    buckets_.Put(std::string(workload), bucket, now);
    return may;
  }

 private:
  static constexpr double kSecondsAtOnce = 10;
  static constexpr size_t kMostWorkloads = 10'000;
  struct Bucket {
    double keys = 0;  // that may be made now
    Time filled;
  };

  const double perSecond_;
  // One that is not asked for so long is full again, and need not be remembered.
  ExpiringMap<std::string, Bucket> buckets_{kMostWorkloads, std::chrono::minutes(1)};
};

}  // namespace kveil::keys
