// What is wrong with the key service now, for the operator and the log.
#pragma once

#include <array>
#include <chrono>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

namespace kveil::keys {

// Any thread may call.
class ServiceHealth {
 public:
  using Time = std::chrono::steady_clock::time_point;

  enum class Part {
    kRootKey,
    kRegistry,
    kLog,       // the registry's write-ahead log still holds an erased key
    kRoom,      // on the registry's disk
    kNewUsers,  // a workload has more of them than it may
    kDamage,    // of a row
  };
  static constexpr size_t kParts = 6;

  // Until the next Set. A change is logged.
  void Set(Part part, const absl::Status& status) { SetUntil(part, status, Time::max()); }
  // Until `until`, as nothing tells when it is over.
  void SetUntil(Part part, const absl::Status& status, Time until);
  // Takes back what was set until now or before.
  void Expire(Time now);

  absl::Status Of(Part part) const;
  // OK, or all that is wrong in one message.
  absl::Status Sum() const;

 private:
  struct Entry {
    absl::Status status;
    Time until = Time::max();
  };

  mutable std::mutex mutex_;
  std::array<Entry, kParts> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
