// The threads that admin commands run on: one for each, so that none waits for another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
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

  // How many were turned away because as many ran already.
  uint64_t refused() const;

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
  uint64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kveil::admin
