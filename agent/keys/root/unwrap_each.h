// For key services that unwrap and rewrap one key per request.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "crypto/secret.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// As RootKey::Unwrap, with `unwrap` for each key, on up to 8 threads. What holds for the service or for the agent's
// rights (kUnavailable, kPermissionDenied) holds for the keys that have not been asked for yet, too: they are not asked
// for then.
std::vector<absl::StatusOr<crypto::SecretKey>> UnwrapEach(
    absl::Span<const RootKey::WrappedKey> keys,
    const std::function<absl::StatusOr<crypto::SecretKey>(const RootKey::WrappedKey&)>& unwrap);

// As RootKey::Rewrap, with `rewrap` for each key, one after the other: there are few. What holds for the service or for
// the agent's rights holds for those that come after, too.
std::vector<absl::StatusOr<ByteBuffer>> RewrapEach(
    absl::Span<const RootKey::WrappedKey> keys,
    const std::function<absl::StatusOr<ByteBuffer>(const RootKey::WrappedKey&)>& rewrap);

}  // namespace kveil::keys
