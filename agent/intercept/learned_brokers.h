// The brokers that responses advertised outside the configured targets, each with a life time. Pod addresses move, so
// none is kept for ever.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/socket_address.h"
#include "policy/config.h"

namespace kveil::intercept {

class LearnedBrokers {
 public:
  // `mapFd` stays its owner's.
  explicit LearnedBrokers(int mapFd) : mapFd_(mapFd) {}

  // What an earlier agent learned stays in force, under the index that its cluster has now; that of a cluster that is
  // configured no more goes.
  void Adopt(absl::Span<const policy::Target> targets);
  // kResourceExhausted when the map is full of living entries.
  absl::Status Learn(const SocketAddress& broker, const policy::Target& target, uint16_t targetIndex,
                     std::chrono::seconds lifetime);
  bool Knows(const SocketAddress& broker);
  void RemoveExpired();

 private:
  void RemoveExpiredLocked();
  const int mapFd_;
  std::mutex mutex_;  // an entry must not be prolonged between being seen expired and being deleted
};

}  // namespace kveil::intercept
