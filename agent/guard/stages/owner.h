// Whose record it is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crypto/key_id.h"
#include "keys/cache/cached_key.h"

namespace kveil::guard {

// What the stages behind `identify` know of a record's owner: a user, a topic or the cluster.
struct Owner {
  enum class State : uint8_t {
    kNobody,   // nothing in the record is sealed, nor is to be: plaintext on its way to a reader, or a tombstone
    kPresent,  // `key` is there
    kErased,   // of a record that was sealed
    kPending,  // not known before the needs are fetched
  };
  // kPresent. While the pass lasts.
  keys::CachedKey* key = nullptr;
  State state = State::kNobody;
  // Of a record to be sealed:
  bool isErasedSubject = false;  // it gets a key that nobody keeps
  crypto::Suite suite = crypto::Suite::kBatchKey;
  alignas(8) crypto::KeyId idInHeader;

  // To nobody. Fields that are written one by one, and then copied at once, have to be waited for: no temporary.
  void Reset() {
    key = nullptr;
    state = State::kNobody;
    isErasedSubject = false;
  }
};
static_assert(sizeof(Owner) == 32 && offsetof(Owner, idInHeader) == 16, "it is copied once per record, in two halves");

// What the headers of all records have in common that a pass seals.
struct BatchMarks {
  crypto::Salt salt;
  crypto::Period period = 0;
};

}  // namespace kveil::guard
