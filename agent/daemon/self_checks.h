// Readiness: once a second the agent tries what it must be able to do.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "intercept/kernel/access_check.h"
#include "intercept/kernel/redirect.h"
#include "intercept/namespaces/namespaces.h"
#include "keys/service/key_service.h"
#include "observe/health.h"
#include "proxy/server.h"

namespace kveil::daemon {

// Lets something begin at most once per interval, however often it is asked for. Not thread-safe.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Pace(Clock::duration interval) : interval_(interval) {}
  bool MayBegin(Clock::time_point now) {
    if (count_ > 0 && now - last_ < interval_) return false;
    last_ = now;
    ++count_;
    return true;
  }
  uint64_t count() const { return count_; }  // how often it has begun

 private:
  const Clock::duration interval_;
  Clock::time_point last_;
  uint64_t count_ = 0;
};

class SelfChecks {
 public:
  // All of them outlive this. The key service answers what it is asked before it ends.
  SelfChecks(observe::Health& health, intercept::Redirect& redirect, intercept::AccessCheck& access,
             proxy::Server& server, keys::KeyService& keys, intercept::Namespaces& namespaces)
      : health_(health), redirect_(redirect), access_(access), server_(server), keys_(keys), namespaces_(namespaces) {}

  // Call it once a second, on any thread. Takes well below a millisecond; every fifth run starts a process that
  // connects through the kernel half, which takes at most two seconds. Called again within a second it does nothing, so
  // that those who may ask for the status cannot keep the agent busy.
  void Run();
  // Whether the agent could do everything when Run was called last, which was a moment ago.
  bool able() const { return able_ && IsRecent(); }
  // Whether its own threads went on when Run was called last, which was a moment ago. If they do not, only a new
  // process helps. What others keep the agent from, such as a key service that is out of reach, says nothing here.
  bool alive() const { return alive_ && IsRecent(); }

 private:
  using Clock = std::chrono::steady_clock;
  // What was found out long ago says nothing of now: the thread that calls Run may be stuck.
  bool IsRecent() const { return Clock::now() - endOfRun_.load() < kRecent; }
  // Sets the condition, and notes whether it is well.
  void Report(const char* name, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status UnwrapAKey() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  observe::Health& health_;
  intercept::Redirect& redirect_;
  intercept::AccessCheck& access_;
  proxy::Server& server_;
  keys::KeyService& keys_;
  intercept::Namespaces& namespaces_;

  Mutex mutex_;  // held by Run
  static constexpr std::chrono::seconds kBetweenRuns{1};
  static constexpr std::chrono::seconds kRecent{15};
  Pace runs_ ABSL_GUARDED_BY(mutex_){kBetweenRuns};
  bool ableNow_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Status connected_ ABSL_GUARDED_BY(mutex_);
  // What the key service is being asked. Its answer may come when nobody waits for it any more.
  struct Question {
    Mutex mutex;
    std::optional<absl::Status> answer ABSL_GUARDED_BY(mutex);
    const std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();
  };
  std::shared_ptr<Question> question_ ABSL_GUARDED_BY(mutex_);
  absl::Status unwrapped_ ABSL_GUARDED_BY(mutex_);  // its last answer
  std::atomic<bool> able_{false};
  std::atomic<bool> alive_{true};
  std::atomic<Clock::time_point> endOfRun_{Clock::now()};
};

// Whether so many descriptors can still be opened, found out by opening them.
absl::Status CheckDescriptors(int count);

}  // namespace kveil::daemon
