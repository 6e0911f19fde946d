// Whether the registry still knows the erasures that this node's receipts tell of. One that was restored from an older
// backup does not, and gives erased users' keys to readers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "keys/service/key_service.h"
#include "observe/health.h"
#include "receipts/store.h"

namespace kveil::daemon {

// Looks at the newest receipts, the newest first, when it is started and whenever the registry was opened anew. What it
// finds is the problem "erasures", which goes when the erasures are repeated.
class ErasureCheck {
 public:
  // Receipts that are looked at, and users of them that the registry is asked for. Older ones are not.
  static constexpr uint64_t kMostReceipts = 1000;
  static constexpr size_t kMostUsers = 10'000;

  // All of them outlive this.
  ErasureCheck(keys::KeyService& keys, const receipts::Store& receipts, observe::Health& health)
      : keys_(keys), receipts_(receipts), health_(health) {}
  ~ErasureCheck();

  // Does the work of a thread of its own from now on.
  void Start();

  // Looks if there is a reason to. Without Start, whoever calls does the work.
  void Look();

 private:
  // What the registry is asked at once.
  using Piece = std::vector<keys::ToldErasure>;
  // OK also when nothing is missing. kUnavailable: it cannot be known now.
  absl::StatusOr<size_t> CountMissing();

  keys::KeyService& keys_;
  const receipts::Store& receipts_;
  observe::Health& health_;
  std::optional<uint64_t> opening_;  // of the registry, when it was looked at last
  bool isMissing_ = false;           // some erasures were
  Mutex mutex_;
  std::condition_variable_any wake_;
  bool isEnding_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kveil::daemon
