// How far an erasure has spread: which agents have dropped the keys, and which have not.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "keys/registry/registry.h"
#include "keys/service/fetch.h"
#include "keys/service/key_service.h"

namespace kveil::keys {

struct ErasureSpread {
  struct Agent {
    std::string name;
    std::optional<absl::Time> confirmed;  // when it was known that all its caches have dropped the keys
    // Otherwise: from when on it refuses the keys at the latest. No cache has them for longer than cacheTtl after the
    // erasure. When the agent was last seen says less: that is told by the registry's clock on the wall, which may
    // jump.
    absl::Time refusesFrom;
  };
  // Every agent has confirmed, or refuses the keys by now, and the registry has answered after that.
  bool isComplete = false;
  std::vector<Agent> agents;  // by name
  absl::Status status;        // why the registry did not answer last; the list is empty if it never did
  // Registry::openings when the agents were read last. When it is another than that of the erasure, the registry was
  // opened anew in between, perhaps on a server that has lost the erasure.
  std::optional<uint64_t> opening;
};

// Follows one erasure. The agents that count are those that the registry knew first: one that comes later has read
// nothing from before the erasure.
class ErasureWatch {
 public:
  // `begin` is not earlier than the erasure's end.
  ErasureWatch(int64_t number, SteadyTime begin) : number_(number), begin_(begin) {}

  // What the registry has answered, just now.
  void Take(const std::vector<Registry::Agent>& agents, absl::Time wallNow);
  ErasureSpread Spread(SteadyTime now, absl::Time wallNow) const;

 private:
  struct Followed {
    Registry::Agent agent;
    std::optional<absl::Time> confirmed;
    SteadyTime refusesFrom;
  };
  const int64_t number_;
  const SteadyTime begin_;
  bool hasAgents_ = false;
  std::vector<Followed> agents_;
};

// The wait of AwaitAgents, look by look.
class ErasureWait {
 public:
  // `options`: of the service that is asked. It outlives this.
  ErasureWait(int64_t number, const KeyServiceOptions& options, std::optional<std::chrono::milliseconds> patience);

  // The service has answered, just now. nullopt: it is to be asked again after pause().
  std::optional<ErasureSpread> Take(const absl::StatusOr<KeyService::AgentsRead>& read, bool mayWait);
  std::chrono::milliseconds pause() const { return pause_; }

 private:
  const KeyServiceOptions& options_;
  const std::optional<std::chrono::milliseconds> patience_;
  const SteadyTime begin_;
  SteadyTime missedSince_;  // when the registry's answer became all that is missing
  ErasureWatch watch_;
  std::optional<uint64_t> opening_;
  std::chrono::milliseconds pause_{0};
};

// Waits until the erasures up to `number` have spread, for at most `patience` (without it, as long as it takes: at most
// the longest cacheTtl of the agents and a second), while `mayWait`. When the registry's answer is all that is missing,
// for at most 10 s more. Blocks; any thread but the service's.
ErasureSpread AwaitAgents(KeyService& keys, int64_t number, std::optional<std::chrono::milliseconds> patience,
                          absl::FunctionRef<bool()> mayWait);

}  // namespace kveil::keys
