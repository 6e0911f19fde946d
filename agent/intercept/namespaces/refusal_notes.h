// Reports refused connects that are no namespace's fault: expired brokers, workloads that want too much.
#pragma once

#include <chrono>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "intercept/kernel/redirect.h"

namespace kveil::intercept {

// Thread-safe.
class RefusalNotes {
 public:
  using Clock = std::chrono::steady_clock;

  // Logs the refusal, once per reason, namespace and minute.
  void Note(const RefusedConnect& refused, Clock::time_point now);
  // kResourceExhausted for a minute after a connect was refused because its workload's share of the tables, or a table,
  // was full.
  absl::Status Health(Clock::time_point now) const;

 private:
  static constexpr std::chrono::minutes kRemembered{1};
  static constexpr size_t kMostNamespaces = 1024;

  mutable Mutex mutex_;
  ExpiringMap<std::pair<uint64_t, int>, bool> logged_ ABSL_GUARDED_BY(mutex_){kMostNamespaces, kRemembered};
  absl::Status latest_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point latestAt_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::intercept
