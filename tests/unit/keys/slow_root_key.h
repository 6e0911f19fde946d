// A root key at a provider that a test makes slow, silent or refusing.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// What a test changes while the provider is in use, and what it counts.
struct ProviderState {
  Mutex mutex;
  std::condition_variable_any changed;
  absl::Status status ABSL_GUARDED_BY(mutex);                 // what every call says, when it is not OK
  absl::Status ofUnwrap ABSL_GUARDED_BY(mutex);               // what Unwrap says, when the others are well
  std::chrono::milliseconds delay ABSL_GUARDED_BY(mutex){0};  // before each answer
  bool keepsDeadlines ABSL_GUARDED_BY(mutex) = true;          // else a call takes its delay, whatever the deadline says
  std::atomic<int> unwraps{0}, generates{0}, checks{0}, most{0}, now{0};

  void Set(absl::Status to) {
    const MutexLock lock(mutex);
    status = std::move(to);
  }
  void SetUnwrap(absl::Status to) {
    const MutexLock lock(mutex);
    ofUnwrap = std::move(to);
  }
  absl::Status UnwrapStatus() {
    const MutexLock lock(mutex);
    return ofUnwrap;
  }
  void Delay(std::chrono::milliseconds by, bool keeps = true) {
    const MutexLock lock(mutex);
    delay = by;
    keepsDeadlines = keeps;
    changed.notify_all();
  }
};

// Passes everything on to `inner`, as a provider that makes one attempt per call.
class SlowRootKey : public RootKey {
 public:
  SlowRootKey(std::unique_ptr<RootKey> inner, std::shared_ptr<ProviderState> state)
      : inner_(std::move(inner)), state_(std::move(state)) {}

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override {
    ++state_->generates;
    const absl::Status status = Wait(deadline);
    return status.ok() ? inner_->GenerateDataKey(context, deadline) : status;
  }
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override {
    ++state_->unwraps;
    absl::Status status = Wait(deadline);
    status.Update(state_->UnwrapStatus());
    auto unwrapped = inner_->Unwrap(keys, deadline);
    if (!status.ok()) {
      for (auto& key : unwrapped) key = status;
    }
    return unwrapped;
  }
  absl::Status Check(Deadline deadline) override {
    ++state_->checks;
    return Wait(deadline);
  }
  void Stop() override {
    const MutexLock lock(state_->mutex);
    isStopped_ = true;
    state_->changed.notify_all();
  }

 private:
  absl::Status Wait(Deadline deadline) {
    const int now = ++state_->now;
    if (now > state_->most) state_->most = now;
    const MutexLock lock(state_->mutex);
    const auto begun = std::chrono::steady_clock::now();
    absl::Status status;
    for (;;) {
      const auto end = begun + state_->delay;
      const bool isLate = state_->keepsDeadlines && end > deadline;
      if (isStopped_ || std::chrono::steady_clock::now() >= (isLate ? deadline : end)) {
        status = isStopped_ || isLate ? absl::UnavailableError("the KMS does not answer") : state_->status;
        break;
      }
      state_->changed.wait_until(state_->mutex, isLate ? deadline : end);
    }
    --state_->now;
    return status;
  }

  const std::string name_ = "slow KMS";
  const std::unique_ptr<RootKey> inner_;
  const std::shared_ptr<ProviderState> state_;
  bool isStopped_ ABSL_GUARDED_BY(state_->mutex) = false;
};

}  // namespace kveil::keys
