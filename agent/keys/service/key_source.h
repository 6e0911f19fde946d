// Where caches have their keys from.
#pragma once

#include <string_view>

#include "absl/functional/any_invocable.h"
#include "crypto/key_id.h"
#include "keys/service/fetch.h"
#include "keys/service/revocations.h"

namespace kveil::keys {

struct KeyServiceOptions;

// A KeyService, but for a simulation, which drives ServiceCore without its thread. Any thread may call.
class KeySource {
 public:
  virtual ~KeySource() = default;

  // Finds what is asked for and makes scope keys that do not exist yet. `done` is called exactly once, on the service's
  // thread. Workloads take turns, and erasures come before them. kInvalidArgument: more than kMostKeysOfAFetch.
  // KeyCache::Fetch is the usual way here.
  virtual void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) = 0;
  // A mask under the registry's secret. Each thread makes its own.
  virtual crypto::KeyIdMask NewMask() const = 0;

  virtual const KeyServiceOptions& options() const = 0;
  virtual const Revocations& revocations() const = 0;
};

}  // namespace kveil::keys
