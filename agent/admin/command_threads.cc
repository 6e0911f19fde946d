#include "admin/command_threads.h"

#include <system_error>
#include <utility>

#include "base/text.h"

namespace kveil::admin {

absl::Status CommandThreads::Run(const std::string& command, absl::AnyInvocable<void()> work) {
  const MutexLock lock(mutex_);
  if (stopped_) return absl::UnavailableError("the agent is stopping");
  JoinEnded();
  size_t& running = running_[command];
  if (running >= mostOfOne_) {
    lastRefusal_ = std::chrono::steady_clock::now();
    return absl::ResourceExhaustedError(
        StrCat(running, " ", command, " commands are running already; try again when one of them has ended"));
  }
  Thread& entry = threads_.emplace_back();
  try {
    entry.thread = std::thread([this, &entry, &running, work = std::move(work)]() mutable {
      work();
      const MutexLock ended(mutex_);
      --running;
      entry.hasEnded = true;
    });
  } catch (const std::system_error& error) {
    threads_.pop_back();
    return absl::UnavailableError(StrCat("cannot start a thread for the command: ", error.what()));
  }
  ++running;
  return absl::OkStatus();
}

// What has ended holds the lock no more, so joining it does not wait.
void CommandThreads::JoinEnded() {
  for (auto entry = threads_.begin(); entry != threads_.end();) {
    if (!entry->hasEnded) {
      ++entry;
      continue;
    }
    entry->thread.join();
    entry = threads_.erase(entry);
  }
}

void CommandThreads::Stop() {
  std::list<Thread> left;
  {
    const MutexLock lock(mutex_);
    stopped_ = true;
    left.splice(left.end(), threads_);
  }
  for (Thread& entry : left) entry.thread.join();
}

bool CommandThreads::isStopping() const {
  const MutexLock lock(mutex_);
  return stopped_;
}

std::optional<std::chrono::steady_clock::time_point> CommandThreads::lastRefusal() const {
  const MutexLock lock(mutex_);
  return lastRefusal_;
}

}  // namespace kveil::admin
