// Limits the lines per event, in total and per workload, so that no workload can fill the log.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"

namespace kveil::log {

// Token buckets. Thread-safe.
class LineLimit {
 public:
  using Clock = std::chrono::steady_clock;

  struct Rate {
    double burst;      // lines at once
    double perSecond;  // lines regained
  };
  struct Options {
    Rate ofEvent{2000, 200};
    Rate ofWorkload{500, 50};    // per event
    size_t mostWorkloads = 512;  // (event, workload) pairs with their own bucket; others share one per event
  };

  LineLimit() : LineLimit(Options()) {}
  explicit LineLimit(const Options& options) : options_(options) {}

  // Returns whether the line may be written; if not, counts it. `workload` is empty if unknown.
  bool Admit(std::string_view event, std::string_view workload, Clock::time_point now);

  struct Suppressed {
    std::string event;
    uint64_t lines;
    std::string workload;  // the last one that was refused
  };
  // The refusals since the last call, one entry per event.
  std::vector<Suppressed> TakeSuppressed();

  uint64_t suppressed() const;

 private:
  struct Bucket {
    double lines;
    Clock::time_point filledAt;
  };
  struct Event {
    Bucket bucket;
    uint64_t suppressed = 0;  // since the last TakeSuppressed
    std::string lastWorkload;
  };

  static void Fill(Bucket& bucket, const Rate& rate, Clock::time_point now);
  Bucket& BucketOf(std::string_view event, std::string_view workload, Clock::time_point now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, Event> events_ ABSL_GUARDED_BY(mutex_);  // bounded: events are names in the code
  absl::flat_hash_map<std::string, Bucket> workloads_ ABSL_GUARDED_BY(mutex_);
  uint64_t suppressed_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kveil::log
