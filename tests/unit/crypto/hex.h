// Bytes to and from hexadecimal text, for tests.
#pragma once

#include <string>
#include <string_view>

#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/text.h"
#include "crypto/secret.h"

namespace kveil::crypto {

inline ByteBuffer FromHex(std::string_view hex) {
  const std::string bytes = absl::HexStringToBytes(ToAbsl(hex));
  return {bytes.begin(), bytes.end()};
}

inline std::string ToHex(Bytes bytes) { return absl::BytesToHexString(ToAbsl(AsText(bytes))); }

inline SecretKey KeyFromHex(std::string_view hex) { return *SecretKey::FromBytes(FromHex(hex)); }

}  // namespace kveil::crypto
