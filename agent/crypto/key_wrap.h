// Keys at rest: one key sealed under another, bound to what it is for.
#pragma once

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "crypto/secret.h"

namespace kveil::crypto {

inline constexpr size_t kWrapOverhead = 12 + 16;
inline constexpr size_t kWrappedKeySize = SecretKey::kSize + kWrapOverhead;

// AES-256-GCM with a random nonce: nonce (12) | ciphertext (32) | tag (16). With random nonces one wrapping key may
// wrap 2^32 keys (NIST SP 800-38D 8.3); an epoch's keys are far fewer.
ByteBuffer WrapKey(const SecretKey& wrappingKey, const SecretKey& key, Bytes aad);

// kDataLoss when `wrapped` was not made by WrapKey under this key and additional data.
absl::StatusOr<SecretKey> UnwrapKey(const SecretKey& wrappingKey, Bytes wrapped, Bytes aad);

// The same of what is not just a key: it becomes longer by kWrapOverhead.
ByteBuffer WrapBytes(const SecretKey& wrappingKey, Bytes bytes, Bytes aad);
// The caller wipes what it gets. Errors as of UnwrapKey.
absl::StatusOr<ByteBuffer> UnwrapBytes(const SecretKey& wrappingKey, Bytes wrapped, Bytes aad);

// A key whose id is known (key_id.h), without a nonce and a tag: 32 bytes, key XOR HMAC-SHA256(wrapping key, context).
// The context names the key by its id, so that no two keys have the same one, and says what the key is for. The
// wrapping key is used for nothing else.
//
// The id, made of the key by HMAC, makes each stream of bytes one of its own, and whoever unwraps compares it. It is
// not the synthetic IV of SIV (RFC 5297), which comes of a secret key: keys must be uniformly random.
ByteBuffer WrapKnownKey(const SecretKey& wrappingKey, const SecretKey& key, Bytes context);
// Of something else than what WrapKnownKey made under this key and context, it gives another key: compare the id of
// what is returned. kDataLoss: it has another size.
absl::StatusOr<SecretKey> UnwrapKnownKey(const SecretKey& wrappingKey, Bytes wrapped, Bytes context);

}  // namespace kveil::crypto
