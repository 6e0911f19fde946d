// What the agent itself must be able to do to be ready, found out by doing it once a second.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "intercept/access_check.h"
#include "intercept/namespaces.h"
#include "intercept/redirect.h"
#include "keys/key_service.h"
#include "observe/health.h"
#include "proxy/server.h"

namespace kveil::cli {

class SelfChecks {
 public:
  // All outlive this, and what the key service is asked is answered before it ends.
  SelfChecks(observe::Health& health, intercept::Redirect& redirect, intercept::AccessCheck& access,
             proxy::Server& server, keys::KeyService& keys, intercept::Namespaces& namespaces)
      : health_(health), redirect_(redirect), access_(access), server_(server), keys_(keys), namespaces_(namespaces) {}

  // Takes well below a millisecond, and every fifth time a walk through the cgroups. Any thread; call it once a second.
  void Run();
  // Whether the agent could do everything when Run was called last. Keys are not part of it: they are a problem of
  // their own.
  bool able() const { return able_; }

 private:
  // Sets the condition, and notes whether it is well.
  void Report(const char* name, const absl::Status& status);
  absl::Status AskForKeys();

  observe::Health& health_;
  intercept::Redirect& redirect_;
  intercept::AccessCheck& access_;
  proxy::Server& server_;
  keys::KeyService& keys_;
  intercept::Namespaces& namespaces_;

  std::mutex mutex_;  // held by Run
  uint64_t runs_ = 0;
  bool ableNow_ = true;
  absl::Status processesSeen_;
  // A question to the key service that has not been answered yet.
  struct Question {
    std::atomic<bool> answered{false};
    std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();
  };
  std::shared_ptr<Question> question_;
  std::atomic<bool> able_{false};
};

// Whether so many descriptors can still be opened, found out by opening them.
absl::Status CheckDescriptors(int count);

}  // namespace kveil::cli
