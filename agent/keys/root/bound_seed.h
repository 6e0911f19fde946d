// Data keys for providers that wrap without binding what they wrap to a context. They wrap a random seed. Of the seed
// and the context come the data key, and a check by which another context is refused:
//
//   data key = HMAC-SHA256(seed, "kveil PROVIDER key 1" | context)
//   check    = HMAC-SHA256(seed, "kveil PROVIDER check 1" | context), the first 16 bytes
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "base/bytes.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "crypto/secret.h"

namespace kveil::keys {

inline constexpr size_t kSeedCheckSize = 16;
using SeedCheck = std::array<uint8_t, crypto::kHmacSize>;

inline crypto::SecretKey DataKeyOf(std::string_view provider, const crypto::SecretKey& seed, Bytes context) {
  const std::string label = StrCat("kveil ", provider, " key 1");
  const Bytes parts[] = {AsBytes(label), context};
  crypto::SecretKey key;
  crypto::HmacSha256(seed, parts, key.writable().data());
  return key;
}

// The first kSeedCheckSize bytes are kept beside the wrapped seed.
inline SeedCheck CheckOf(std::string_view provider, const crypto::SecretKey& seed, Bytes context) {
  const std::string label = StrCat("kveil ", provider, " check 1");
  const Bytes parts[] = {AsBytes(label), context};
  SeedCheck check;
  crypto::HmacSha256(seed, parts, check.data());
  return check;
}

}  // namespace kveil::keys
