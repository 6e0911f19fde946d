// Whether the registry still knows the erasures that this node's receipts tell of. One that was restored from an older
// backup does not, and gives erased users' keys to readers.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "base/stop_signal.h"
#include "keys/service/key_service.h"
#include "observe/health.h"
#include "receipts/store.h"

namespace kveil::daemon {

// Looks at the newest receipts, the newest first, when it is started and whenever the registry was opened anew. What it
// finds missing is the problem "erasures", which goes when the registry knows all of it.
class ErasureCheck {
 public:
  // Receipts that are looked at, and users of them that the registry is asked for; older ones are not. So many of those
  // that are missing are kept.
  static constexpr size_t kMostReceipts = 1000;
  static constexpr size_t kMostUsers = 10'000;

  // All of them outlive this.
  ErasureCheck(keys::KeyService& keys, const receipts::Store& receipts, observe::Health& health,
               size_t mostReceipts = kMostReceipts)
      : keys_(keys), receipts_(receipts), health_(health), mostReceipts_(mostReceipts) {}
  ~ErasureCheck();

  // Does the work of a thread of its own from now on.
  void Start();

  // Looks if there is a reason to. Without Start, whoever calls does the work.
  void Look();
  // Whether the registry knew all of them when it was looked at last. Any thread.
  bool isWhole() const { return isWhole_; }
  // A look that is under way ends with the question that the registry answers, and finds nothing. The destructor does
  // it first: shutting down waits for no more.
  void End() { stop_.Stop(); }

 private:
  using Erasures = std::map<keys::Subject, int64_t>;  // with the number of the user's last one
  // Both kUnavailable: it cannot be known now.
  absl::Status AddFromReceipts(Erasures& erasures);
  // Those of them that the registry does not know of, at most kMostUsers.
  absl::StatusOr<Erasures> FindMissing(const Erasures& erasures);

  keys::KeyService& keys_;
  const receipts::Store& receipts_;
  observe::Health& health_;
  const size_t mostReceipts_;
  std::optional<uint64_t> opening_;  // of the registry, when it was looked at last
  Erasures missing_;                 // when it was looked last. Newer receipts do not push them out
  std::atomic<bool> isWhole_ = false;
  StopSignal stop_;
  std::thread thread_;
};

}  // namespace kveil::daemon
