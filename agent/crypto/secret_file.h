// Reads a secret from a file: a token, a password.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "crypto/secret_text.h"

namespace kveil::crypto {

// The file as it is. kFailedPrecondition, with the path and the reason: no regular file, not to be read, empty, or
// longer than 64 KiB.
absl::StatusOr<SecretText> ReadSecretFile(const std::string& path);

// The file's one line of printable text, without white space at its end. kFailedPrecondition, with the path and the
// reason: as above, or more than one line of ASCII.
absl::StatusOr<SecretText> ReadSecret(const std::string& path);

}  // namespace kveil::crypto
