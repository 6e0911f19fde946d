// How many lines an event may write, in all and for one workload: what a workload can cause must not fill the log.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"

namespace kveil::log {

// Token buckets. Safe from any thread.
class LineLimit {
 public:
  using Clock = std::chrono::steady_clock;

  struct Rate {
    double burst;      // lines at once
    double perSecond;  // lines that a bucket gets back
  };
  struct Options {
    Rate ofEvent{2000, 200};
    Rate ofWorkload{500, 50};    // for one event
    size_t mostWorkloads = 512;  // pairs of event and workload that are told apart; beyond it they share a bucket
  };

  LineLimit() : LineLimit(Options()) {}
  explicit LineLimit(const Options& options) : options_(options) {}

  // Whether the line may be written; otherwise it is counted. `workload` is empty where none is known.
  bool Admit(std::string_view event, std::string_view workload, Clock::time_point now);

  struct Suppressed {
    std::string event;
    uint64_t lines;
    std::string workload;  // whose line was refused last
  };
  // What was refused since the last call, one entry for each event.
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
