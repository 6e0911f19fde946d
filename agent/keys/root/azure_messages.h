// What is said to Azure Key Vault and to a Managed HSM, and what they say: JSON. Whatever holds a key is wiped.
// https://learn.microsoft.com/rest/api/keyvault/keys
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "crypto/secret.h"
#include "crypto/secret_text.h"

namespace kveil::keys::azure {

using crypto::SecretText;

// Whether this can be the name of a key, or of a version of one.
bool IsName(std::string_view text);

// How keys wrap. No other algorithm is used, whatever a registry says: RSA1_5 would be a padding oracle.
inline constexpr std::string_view kRsaOaep256 = "RSA-OAEP-256", kA256Kw = "A256KW";

// A version of a key, and how it wraps.
struct KeyVersion {
  std::string name;
  std::string version;
  std::string algorithm;  // kRsaOaep256 or kA256Kw
};

// GET keys/NAME. The newest version, when it can do what the agent needs; kFailedPrecondition says what it cannot.
absl::StatusOr<KeyVersion> ParseKey(const SecretText& body);

// POST keys/NAME/VERSION/wrapkey and unwrapkey.
SecretText OperationRequest(std::string_view algorithm, Bytes value);
// The two answer alike. kUnavailable: this makes no sense, or another version of a key answers. kDataLoss: what was
// unwrapped does not have 32 bytes, so the agent has not wrapped it.
absl::StatusOr<ByteBuffer> ParseWrapped(const SecretText& body, std::string_view name, std::string_view version);
absl::StatusOr<crypto::SecretKey> ParseUnwrapped(const SecretText& body, std::string_view name,
                                                 std::string_view version);

// An error as Azure writes it.
struct Error {
  std::string code;     // "Forbidden"
  std::string inner;    // "KeyDisabled"; may be empty
  std::string message;  // for people; printable
};
// nullopt: Azure has not written this.
std::optional<Error> ParseError(const SecretText& body);

}  // namespace kveil::keys::azure
