// HMAC-SHA256 (RFC 2104, FIPS 180-4): every identifier and every derived key is made with it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "crypto/secret.h"

namespace kveil::crypto {

inline constexpr size_t kHmacSize = 32;

// HMAC-SHA256 under `key` of the concatenation of `parts`, into 32 bytes at `out`. Leaves nothing of the key in memory.
// Any thread may call.
void HmacSha256(const SecretKey& key, absl::Span<const Bytes> parts, uint8_t* out);

// Whether two byte strings are equal, in a time that depends on their lengths only.
bool EqualInConstantTime(Bytes left, Bytes right);

}  // namespace kveil::crypto
