// The file that holds a root key. It is made once, on the first start, and never replaced. Its bytes stay in this room:
// others use RootKey.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "crypto/secret.h"

namespace kveil::keys {

// The file is two lines of text:
//
//   kveil root key 1
//   <32 bytes of key as 64 hexadecimal digits> <first 8 bytes of HMAC-SHA256(key, "kveil root check 1"), 16 digits>
//
// The check tells a damaged file from a wrong one. Only the owner may have any permission on it.

// kNotFound when there is no file. kFailedPrecondition, with the path and the reason, when it is not a regular file (a
// symbolic link is not one), belongs to neither root nor this user, is open to group or others, or is damaged.
absl::StatusOr<crypto::SecretKey> ReadRootKeyFile(const std::string& path);

// Makes the file with a new key. Key and directory entry are on disk before this returns. When another process was
// quicker, returns its key. kFailedPrecondition, with the path, when the file cannot be made.
absl::StatusOr<crypto::SecretKey> CreateRootKeyFile(const std::string& path);

}  // namespace kveil::keys
