// The policies in force, reloaded when their folder changes: all of it valid, or the old ones stay.
//
//   auto store = PolicyStore::Open("/etc/kveil/policies", {});
//   std::shared_ptr<const Policy> policy = (*store)->Current();          // keep it while generation() stays the same
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "policy/policy.h"

namespace kveil::policy {

class PolicyStore {
 public:
  struct Options {
    // A change is read when the folder was quiet for this long (an editor or a copy makes many small steps).
    std::chrono::milliseconds quiet = std::chrono::milliseconds(100);
    // Changes that inotify does not tell of (a file behind a link, a network file system) are looked for this often.
    std::chrono::milliseconds look = std::chrono::seconds(10);
    // Called after every reload with its outcome, on the thread that reloaded. Must not call back into the store's
    // Reload.
    std::function<void(const absl::Status&)> reloaded;
  };

  // Errors: those of Policy::Load; kInternal when inotify is not to be had.
  static absl::StatusOr<std::unique_ptr<PolicyStore>> Open(std::string folder, Options options);
  ~PolicyStore();  // stops watching
  PolicyStore(const PolicyStore&) = delete;
  PolicyStore& operator=(const PolicyStore&) = delete;

  // All of these are safe from any thread.
  std::shared_ptr<const Policy> Current() const;
  uint64_t generation() const;  // 1 after Open, one more for every policy that took force; cheap enough for every frame
  absl::Status Reload();        // now; its error is also lastError()
  absl::Status lastError() const;  // why the last reload was refused; OK when what is on disk is in force

 private:
  struct State;
  explicit PolicyStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::policy
