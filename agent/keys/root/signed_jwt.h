// A JSON Web Token that is signed by RS256 (RFC 7515, RFC 7518 section 3.3, RFC 7519).
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "crypto/secret_text.h"

namespace kveil::keys {

// `claims` is a JSON object. `key` is an RSA key in PEM; `keyId` is its name in the header, and may be empty.
// kFailedPrecondition: it is no RSA key of 2,048 bits or more.
absl::StatusOr<crypto::SecretText> SignJwt(const crypto::SecretText& key, std::string_view keyId,
                                           const crypto::SecretText& claims);

}  // namespace kveil::keys
