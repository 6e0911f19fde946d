// The brokers that responses advertised outside the configured targets, each with a life time. Pod addresses move, so
// none is kept for ever.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/socket_address.h"
#include "policy/config.h"

namespace kveil::intercept {

class LearnedBrokers {
 public:
  // `mapFd` and `targets`, those of the configuration, stay their owner's.
  LearnedBrokers(int mapFd, absl::Span<const policy::Target> targets) : mapFd_(mapFd), targets_(targets) {}

  // What an earlier agent learned stays in force, under the index that its cluster has now, whatever index the entry
  // was written with; that of a cluster that is configured no more goes. An error: an entry could be neither.
  absl::Status Adopt();
  // An address is one cluster's as long as it is known: kAlreadyExists when it is another's, because what that cluster
  // is promised (TLS, its keys) must not end with a word of this one. kResourceExhausted when the map is full of living
  // entries.
  absl::Status Learn(const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime);
  bool Knows(const SocketAddress& broker);
  void RemoveExpired();

 private:
  void RemoveExpiredLocked();
  std::string ClusterOf(uint32_t hash) const;
  const int mapFd_;
  const absl::Span<const policy::Target> targets_;
  std::mutex mutex_;  // an entry must not be prolonged between being seen expired and being deleted
};

}  // namespace kveil::intercept
