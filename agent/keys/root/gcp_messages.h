// What is said to Google Cloud KMS, and what it says: JSON. Whatever holds a key is wiped.
// https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys
//
// Both sides send CRC-32C of each field, and check them: https://cloud.google.com/kms/docs/data-integrity-guidelines
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "crypto/secret.h"
#include "crypto/secret_text.h"

namespace kveil::keys::gcp {

using crypto::SecretText;

// POST KEY:encrypt.
SecretText EncryptRequest(Bytes plaintext, Bytes context);
struct EncryptAnswer {
  std::string version;  // the name of the version that was used, "projects/.../cryptoKeyVersions/1"
  ByteBuffer ciphertext;
};
// kUnavailable: this makes no sense, or was damaged on its way.
absl::StatusOr<EncryptAnswer> ParseEncrypt(const SecretText& body);

// POST KEY:decrypt.
SecretText DecryptRequest(Bytes ciphertext, Bytes context);
// kUnavailable as above. kDataLoss: what was decrypted does not have 32 bytes, so the agent has not encrypted it.
absl::StatusOr<crypto::SecretKey> ParseDecrypt(const SecretText& body);

// GET KEY. OK when the key can do what the agent needs; kFailedPrecondition says what it cannot, kUnavailable that its
// version is being made.
absl::Status ParseKey(const SecretText& body);

// An error as Google's APIs write it, https://google.aip.dev/193.
struct Error {
  std::string status;   // "PERMISSION_DENIED"
  std::string message;  // for people; printable
};
// nullopt: Google has not written this.
std::optional<Error> ParseError(const SecretText& body);

}  // namespace kveil::keys::gcp
