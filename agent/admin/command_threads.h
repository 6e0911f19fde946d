// The threads that admin commands run on: one for each, so that none waits for another.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/mutex.h"

namespace kveil::admin {

// Any thread.
class CommandThreads {
 public:
  // At most `mostOfOne` of each command run at the same time. The bound is per command, so that however many erases
  // wait for the registry, there is room for a status.
  explicit CommandThreads(size_t mostOfOne) : mostOfOne_(mostOfOne) {}
  ~CommandThreads() { Stop(); }
  CommandThreads(const CommandThreads&) = delete;
  CommandThreads& operator=(const CommandThreads&) = delete;

  // Runs `work` on a thread of its own, unless it fails. kResourceExhausted: as many of this command run already.
  // kUnavailable: after Stop, or the system has no thread left.
  absl::Status Run(const std::string& command, absl::AnyInvocable<void()> work);

  // Takes nothing new, and waits for what runs.
  void Stop();
  bool isStopping() const;

  // When one was last turned away because as many ran already; nullopt if none was.
  std::optional<std::chrono::steady_clock::time_point> lastRefusal() const;

 private:
  struct Thread {
    std::thread thread;
    bool hasEnded = false;  // guarded by mutex_
  };
  void JoinEnded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t mostOfOne_;
  mutable Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<Thread> threads_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, size_t> running_ ABSL_GUARDED_BY(mutex_);  // by command
  std::optional<std::chrono::steady_clock::time_point> lastRefusal_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::admin
