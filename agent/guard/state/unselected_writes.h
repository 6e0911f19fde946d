// Topics that no policy selects and that workloads write to after they have read a protected topic. What was sealed may
// be clear text again there (a mirror, a retry or dead-letter topic, a repartition or changelog topic).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
#include "base/mutex.h"

namespace kveil::guard {

// All connections share it. Any thread may call. Workloads are told apart by their share (identity::Workload::share).
class UnselectedWrites {
 public:
  using Clock = std::chrono::steady_clock;

  // How many workloads and topics are remembered. Of further topics it is only known that there are some. Of more
  // workloads, those are forgotten that have not read anything protected for the longest time.
  static constexpr size_t kMostReaders = 4096;
  static constexpr size_t kMostTopics = 100;
  static constexpr Clock::duration kRememberReader = std::chrono::hours(24);

  // The agent has opened something for the workload.
  void NoteRead(const std::string& workload, Clock::time_point now);
  // The workload writes to a topic in clear text. Returns whether it has read something protected before.
  bool NoteWrite(const std::string& workload, std::string_view topic, Clock::time_point now);

  struct Topic {
    std::string name;
    std::string workload;  // the first one
  };
  struct Report {
    std::vector<Topic> topics;  // in the order of their names
    bool hasMore = false;       // than kMostTopics
  };
  Report report() const;

 private:
  mutable Mutex mutex_;
  std::atomic<bool> anyReader_{false};
  ExpiringMap<std::string, bool> readers_ ABSL_GUARDED_BY(mutex_){kMostReaders, kRememberReader};
  std::map<std::string, std::string, std::less<>> topics_ ABSL_GUARDED_BY(mutex_);
  bool hasMore_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kveil::guard
