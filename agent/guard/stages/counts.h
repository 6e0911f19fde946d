// What `observe` counts of a batch.
#pragma once

#include <cstdint>

namespace kveil::guard {

struct ProducedCounts {
  uint64_t sealed = 0;        // records
  uint64_t afterErasure = 0;  // of them under a key that nobody keeps
};

struct FetchedCounts {
  uint64_t opened = 0;            // records
  uint64_t erased = 0;            // left out or masked: the user was erased
  uint64_t denied = 0;            // left out or masked: no entry of `read` lets the reader have them
  bool deniedDropped = false;     // left out although the reader gets denied records masked
  uint64_t plaintext = 0;         // without an envelope
  bool plaintextDropped = false;  // left out or masked
};

}  // namespace kveil::guard
