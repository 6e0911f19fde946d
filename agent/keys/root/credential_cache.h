// Credentials that a key service wants to see: for how long they are used, and who asks for others.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "http/jitter.h"

namespace kveil::keys {

// Any thread may call. Credentials that end are renewed at a random moment well before that, by one caller, in
// half of its time at most, while the others go on with the old ones. Those that do not end are looked up again every
// minute or two, so that a new file takes effect.
//
// T is compared by ==, and its `endsAt` is a std::optional<absl::Time>.
template <typename T>
class CredentialCache {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  using Credentials = std::shared_ptr<const T>;
  using Source = std::function<absl::StatusOr<T>(Deadline)>;

  // Credentials that are refused are not replaced by others more often than `replacePause` says: a policy that denies
  // would otherwise have the agent ask for new ones all the time. They are not renewed more often than `leastAge` says,
  // however soon they end.
  CredentialCache(Source source, std::chrono::milliseconds replacePause, std::chrono::milliseconds leastAge)
      : source_(std::move(source)), replacePause_(replacePause), leastAge_(leastAge) {}

  // Errors are those of the source.
  absl::StatusOr<Credentials> Get(Deadline deadline) {
    Credentials usable;
    {
      const MutexLock lock(mutex_);
      const Clock::time_point now = Clock::now();
      if (current_ != nullptr && now < std::min(refreshAt_, endsAt_)) return current_;
      if (current_ != nullptr && now < endsAt_) {
        usable = current_;
        refreshAt_ = now + kAskAgain + http::UpTo(kAskAgain);  // the others go on meanwhile
      }
    }
    if (usable != nullptr) {
      // A source that does not answer leaves the caller time for what the credentials are for.
      const Clock::time_point now = Clock::now();
      absl::StatusOr<T> found = source_(now + (deadline - now) / 2);
      return found.ok() ? Take(*std::move(found)) : usable;
    }
    const MutexLock asking(asking_);
    {
      const MutexLock lock(mutex_);
      if (current_ != nullptr && Clock::now() < endsAt_) return current_;
    }
    ASSIGN_OR_RETURN(T found, source_(deadline));
    return Take(std::move(found));
  }

  // Others than those that the service has just refused. nullptr: there are none, or they were looked for a moment ago.
  absl::StatusOr<Credentials> Replace(const Credentials& refused, Deadline deadline) {
    const MutexLock asking(asking_);
    {
      const MutexLock lock(mutex_);
      if (current_ != refused) return current_;  // another thread was quicker
      if (Clock::now() - found_ < replacePause_) return Credentials();
    }
    ASSIGN_OR_RETURN(T found, source_(deadline));
    Credentials taken = Take(std::move(found));
    return taken == refused ? Credentials() : taken;
  }

 private:
  using Clock = std::chrono::steady_clock;

  // How soon a renewal that could not be made is tried again.
  static constexpr std::chrono::milliseconds kAskAgain{5'000};

  // Keeps the object in use when these are the same.
  Credentials Take(T found) {
    const MutexLock lock(mutex_);
    found_ = Clock::now();
    // Those that got theirs at the same moment do not renew them at the same moment.
    std::chrono::milliseconds until = leastAge_ + http::UpTo(leastAge_);
    endsAt_ = Clock::time_point::max();
    if (found.endsAt.has_value()) {
      const auto left = absl::ToChronoMilliseconds(*found.endsAt - absl::Now());
      until = std::max(left * 3 / 5 + http::UpTo(std::max(left / 5, std::chrono::milliseconds(1))), leastAge_);
      // By a clock that is wrong they have ended already: the service knows better.
      endsAt_ = found_ + std::max(left, leastAge_);
    }
    refreshAt_ = found_ + until;
    if (current_ == nullptr || !(*current_ == found)) current_ = std::make_shared<const T>(std::move(found));
    return current_;
  }

  const Source source_;
  const std::chrono::milliseconds replacePause_, leastAge_;

  Mutex asking_;  // held while there are none: the others wait for the same. Before mutex_
  Mutex mutex_;
  Credentials current_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point found_ ABSL_GUARDED_BY(mutex_);  // the last time
  Clock::time_point refreshAt_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point endsAt_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
