// What the agent itself must be able to do to be ready, found out by doing it once a second.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
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
  // All outlive this, and what the key service is asked is answered before it ends.
  SelfChecks(observe::Health& health, intercept::Redirect& redirect, intercept::AccessCheck& access,
             proxy::Server& server, keys::KeyService& keys, intercept::Namespaces& namespaces)
      : health_(health), redirect_(redirect), access_(access), server_(server), keys_(keys), namespaces_(namespaces) {}

  // Takes well below a millisecond; every fifth time it starts a process that connects through the kernel half, which
  // takes at most two seconds. Any thread; call it once a second. Called again within a second it does nothing: whoever
  // may ask for the status must not keep the agent busy by that.
  void Run();
  // Whether the agent could do everything when Run was called last.
  bool able() const { return able_; }

 private:
  // Sets the condition, and notes whether it is well.
  void Report(const char* name, const absl::Status& status);
  absl::Status UnwrapAKey();

  observe::Health& health_;
  intercept::Redirect& redirect_;
  intercept::AccessCheck& access_;
  proxy::Server& server_;
  keys::KeyService& keys_;
  intercept::Namespaces& namespaces_;

  std::mutex mutex_;  // held by Run
  static constexpr std::chrono::seconds kBetweenRuns{1};
  Pace runs_{kBetweenRuns};
  bool ableNow_ = true;
  absl::Status connected_;
  // What the key service is asked now. It may answer when nobody waits any more.
  struct Question {
    std::mutex mutex;
    std::optional<absl::Status> answer;  // guarded by mutex
    const std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();
  };
  std::shared_ptr<Question> question_;
  absl::Status unwrapped_;  // its last answer
  std::atomic<bool> able_{false};
};

// Whether so many descriptors can still be opened, found out by opening them.
absl::Status CheckDescriptors(int count);

}  // namespace kveil::daemon
