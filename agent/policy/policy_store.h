// The policies in force. Reloads them when their folder changes; if any of it is invalid, the old ones stay. Files that
// are the same again change nothing.
//
//   auto store = PolicyStore::Open("/etc/kveil/policies", {});
//   std::shared_ptr<const Policy> policy = (*store)->Current();          // keep it while generation() stays the same
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "policy/policy.h"
#include "policy/signed_policies.h"

namespace kveil::policy {

class PolicyStore {
 public:
  struct Options {
    std::optional<Trust> trust;
    // Reads a change once the folder has been quiet for this long (an editor or a copy makes many small steps).
    std::chrono::milliseconds quiet = std::chrono::milliseconds(100);
    // How often to look for changes that inotify does not report (a file behind a link, a network file system).
    std::chrono::milliseconds look = std::chrono::seconds(10);
    // Whether this agent can do what they say. If not, they are refused.
    std::function<absl::Status(const Policy&)> fits;
    // Called after every reload with its outcome, on the thread that reloaded. Must not call Reload.
    std::function<void(const absl::Status&)> reloaded;
    // Called each time that the files have been read, before it is decided whether they have changed meanwhile.
    std::function<void()> read;
  };

  // Errors: those of Policy::Load, of LoadSigned with `trust`; kInternal if inotify is not available.
  static absl::StatusOr<std::unique_ptr<PolicyStore>> Open(std::string folder, Options options);
  ~PolicyStore();  // stops watching
  PolicyStore(const PolicyStore&) = delete;
  PolicyStore& operator=(const PolicyStore&) = delete;

  // Any thread may call these.
  std::shared_ptr<const Policy> Current() const;
  uint64_t generation() const;     // 1 after Open, one more per change that took effect; cheap enough for every frame
  absl::Status Reload();           // now; its error is also lastError()
  absl::Status lastError() const;  // why the last reload was refused; OK when what is on disk is in force

 private:
  struct State;
  explicit PolicyStore(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::policy
