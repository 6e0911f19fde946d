// Topics that no policy selects, and that workloads write to after they have read a protected one: there, what was
// sealed may be clear text again (a mirror, a retry or dead-letter topic, a repartition or changelog topic).
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

// Any thread may call. A workload is known by its share.
class UnselectedWrites {
 public:
  using Clock = std::chrono::steady_clock;

  // How many workloads and topics are remembered. Of more topics the number is known, not the names; of more workloads
  // those that have not read anything protected for the longest time are forgotten.
  static constexpr size_t kMostReaders = 4096;
  static constexpr size_t kMostTopics = 100;
  static constexpr Clock::duration kRememberReader = std::chrono::hours(24);

  // The workload was given something that was opened for it.
  void NoteRead(const std::string& workload, Clock::time_point now);
  // It writes to a topic in clear text. Returns whether that is of interest.
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
