// Having keys wrapped anew that a root key or a KEK has wrapped.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "crypto/secret.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

struct Rewrapped {
  ByteBuffer wrapped;
  crypto::SecretKey key;  // that unwrapping it gives
};
// One answer per key, in the same order. Blocks until the deadline, and any thread may call. Whoever stores what is
// wrapped looks first whether it gives the same key as before. Errors as of RootKey::Rewrap and Unwrap.
std::vector<absl::StatusOr<Rewrapped>> RewrapAndUnwrap(RootKey& root, absl::Span<const RootKey::WrappedKey> keys,
                                                       RootKey::Deadline deadline);

}  // namespace kveil::keys
