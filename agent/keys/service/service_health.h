// What is wrong with the key service now, for the operator and the log.
#pragma once

#include <array>
#include <chrono>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"

namespace kveil::keys {

// Any thread may call.
class ServiceHealth {
 public:
  using Time = std::chrono::steady_clock::time_point;

  enum class Part {
    kRootKey,
    kRegistry,
    kErasedCopies,  // the registry's files still hold an erased key
    kRoom,          // on the registry's disk
    kNewUsers,      // a workload has more of them than it may
    kDamage,        // of a row
    kAgents,        // this agent is not known to the registry
    kConsents,      // of a topic do not count, as withdrawals may be missing
    kEpochs,        // do not turn
    kKeks,          // cannot be used
  };
  static constexpr size_t kParts = 10;

  // Holds until the next Set of this part. A change is logged.
  void Set(Part part, const absl::Status& status) { SetUntil(part, status, Time::max()); }
  // Holds until `until`, for a trouble that nothing reports the end of.
  void SetUntil(Part part, const absl::Status& status, Time until);
  // Ends what was set until `now` or before.
  void Expire(Time now);

  absl::Status Of(Part part) const;
  // OK, or all that is wrong in one message.
  absl::Status Sum() const;

 private:
  struct Entry {
    absl::Status status;
    Time until = Time::max();
  };

  mutable Mutex mutex_;
  std::array<Entry, kParts> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
