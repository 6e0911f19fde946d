// One rotation at a time, of a root key or of KEKs, which the end of the agent does not wait for.
#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// Any thread may call.
class RotationSlot {
 public:
  // A rotation begins, for as long as this lives. Of two at once, one would take the provider's threads from what
  // waits for the root key.
  class Rotation {
   public:
    explicit Rotation(RotationSlot& slot) : slot_(slot), begun_(slot.Begin()) {}
    Rotation(const Rotation&) = delete;
    Rotation& operator=(const Rotation&) = delete;
    ~Rotation() {
      const MutexLock lock(slot_.mutex_);
      if (begun_.ok()) slot_.isTaken_ = false;
    }
    // kUnavailable: another one is under way, or the agent is ending.
    const absl::Status& begun() const { return begun_; }
    // Says which one is asked from now on, nullptr: none. kUnavailable: the agent is ending.
    absl::Status Asks(RootKey* root) {
      const MutexLock lock(slot_.mutex_);
      slot_.asked_ = slot_.isEnding_ ? nullptr : root;
      return slot_.isEnding_ ? IsEnding() : absl::OkStatus();
    }

   private:
    RotationSlot& slot_;
    const absl::Status begun_;
  };

  // Ends what is asked now, and lets nothing more begin.
  void End() {
    const MutexLock lock(mutex_);
    isEnding_ = true;
    if (asked_ != nullptr) asked_->Stop();
  }

 private:
  static absl::Status IsEnding() { return absl::UnavailableError("the agent is ending"); }
  absl::Status Begin() {
    const MutexLock lock(mutex_);
    if (isEnding_) return IsEnding();
    if (isTaken_) return absl::UnavailableError("a rotation is under way on this agent; ask again when it is over");
    isTaken_ = true;
    return absl::OkStatus();
  }

  Mutex mutex_;
  bool isTaken_ ABSL_GUARDED_BY(mutex_) = false;
  bool isEnding_ ABSL_GUARDED_BY(mutex_) = false;
  RootKey* asked_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace kveil::keys
