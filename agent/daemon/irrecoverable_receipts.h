// Writes a receipt when erasures have become irrecoverable: docs/erasure.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "keys/service/key_service.h"
#include "receipts/store.h"

namespace kveil::daemon {

// One thread uses it.
class IrrecoverableReceipts {
 public:
  // `rootKey`: its name, for the receipts.
  IrrecoverableReceipts(std::string folder, std::string rootKey)
      : store_(std::move(folder), /*lockPatience=*/std::chrono::milliseconds(0)), rootKey_(std::move(rootKey)) {}

  // To be called every second or so, while the registry knows all erasures that receipts tell of. At most one receipt
  // per turn of the epochs, and none for a turn that has made no further erasure irrecoverable. What cannot be written
  // is tried again.
  absl::Status Watch(const keys::KeyService& keys);

  // How far back one is looked for after a start. If there is none, it is written twice, which says the same.
  static constexpr uint64_t kMostLookedAt = 1000;

 private:
  int64_t LastInStore(const std::string& registry) const;

  const receipts::Store store_;
  const std::string rootKey_;
  std::optional<int64_t> upTo_;  // what the last receipt says; nullopt: not looked yet
  std::chrono::steady_clock::time_point notBefore_;
  absl::Status status_;
};

}  // namespace kveil::daemon
