// Listeners that outlive the agent's process: what connects while it restarts waits for the next one, instead of being
// refused.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "base/descriptor_store.h"
#include "intercept/kernel/listeners.h"

namespace kveil::intercept {

// One thread uses it.
class KeptListeners {
 public:
  // Takes what earlier agents have kept, unless it belongs to another configured cgroup, whose programs see its
  // connections. `store` may be nullptr: nothing is kept. It outlives this.
  KeptListeners(DescriptorStore* store, uint64_t cgroupId);

  // The listeners of an earlier agent in a namespace, once; both are invalid when there are none.
  Listeners Take(uint64_t netnsCookie);
  // Has them kept, unless they are.
  void Keep(uint64_t netnsCookie, const Listeners& listeners);
  // The agent leaves the namespace, or cannot use what was kept there.
  void Forget(uint64_t netnsCookie);
  // Closes and forgets what was not taken, where nobody lives any more: it would keep the namespace alive.
  void ForgetUnless(absl::FunctionRef<bool(uint64_t netnsCookie)> isInUse);

 private:
  std::string NameOf(uint64_t netnsCookie, int family) const;

  DescriptorStore* const store_;
  const uint64_t cgroupId_;
  std::map<uint64_t, Listeners> earlier_;       // by cookie
  absl::flat_hash_set<std::string> keptNames_;  // those that the store has
};

}  // namespace kveil::intercept
