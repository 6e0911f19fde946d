// What is said to Vault and OpenBao, and what they say: JSON. Whatever holds a token or a key is wiped.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "crypto/secret.h"
#include "crypto/secret_text.h"

namespace kveil::keys::vault {

using crypto::SecretText;

// A ciphertext of Transit, "vault:v3:BASE64".
struct Ciphertext {
  uint32_t version = 0;  // of the key; at least 1
  ByteBuffer bytes;
};

// POST MOUNT/datakey/plaintext/KEY. It takes no associated data.
SecretText DataKeyRequest();
struct DataKeyAnswer {
  Ciphertext ciphertext;
  crypto::SecretKey key;
};
absl::StatusOr<DataKeyAnswer> ParseDataKey(const SecretText& body);

// POST MOUNT/decrypt/KEY, for several at once.
struct DecryptItem {
  uint32_t version = 0;
  Bytes ciphertext;
};
SecretText DecryptRequest(absl::Span<const DecryptItem> items);
// One answer per item. kInvalidArgument: the body has none, as it is about the request as a whole. Of a single one:
// kDataLoss, kFailedPrecondition (its version may not be used any more), or kUnavailable for what is not known.
absl::StatusOr<std::vector<absl::StatusOr<crypto::SecretKey>>> ParseDecrypt(const SecretText& body, size_t items);

// POST MOUNT/rewrap/KEY, for several at once. Answers as those of decrypt.
SecretText RewrapRequest(absl::Span<const DecryptItem> items);
absl::StatusOr<std::vector<absl::StatusOr<Ciphertext>>> ParseRewrap(const SecretText& body, size_t items);

// GET MOUNT/keys/KEY. OK when the key can do what the agent needs; kFailedPrecondition says what it cannot.
absl::Status ParseKey(const SecretText& body);

// POST auth/MOUNT/login.
SecretText AppRoleRequest(std::string_view roleId, std::string_view secretId);
SecretText KubernetesRequest(std::string_view role, std::string_view token);
struct Login {
  SecretText token;               // empty after a renewal that does not repeat it
  std::chrono::seconds lease{0};  // 0: it does not end
  bool isRenewable = false;
};
// Of a login and of auth/token/renew-self.
absl::StatusOr<Login> ParseLogin(const SecretText& body);
// Of auth/token/lookup-self; it does not repeat the token.
absl::StatusOr<Login> ParseLookup(const SecretText& body);

// Whether Vault wrote the body of this error: it has `errors`, or the `data` of a request that was met in part.
bool IsAnswer(const SecretText& body);

// What the body gives as the reason of an error, cut and printable, with ": " before it; empty when it gives none.
std::string ErrorsOf(const SecretText& body);

}  // namespace kveil::keys::vault
