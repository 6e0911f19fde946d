// The file that holds a root key. It is made once, on the first start, and moves on to the next generation of its key
// when epochs turn. Its bytes stay in this room: others use RootKey.
#pragma once

#include <cstdint>
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
// or, from generation 1 on:
//
//   kveil root key 2 <generation, 8 digits>
//   <as above; the check also of the generation in 8 bytes, big endian, behind the label>
//
// The check tells a damaged file from a wrong one. Only the owner may have any permission on it.

// A key and its generation. Whoever has one generation can make all later ones, and none that is earlier: each is
// HMAC-SHA256(the one before, "kveil root next 1" | generation in 8 bytes | 01), a block of HKDF-Expand (RFC 5869 2.3).
struct RootKeyGeneration {
  static constexpr uint64_t kMost = 99'999'999;
  crypto::SecretKey key;
  uint64_t generation = 0;

  RootKeyGeneration Copy() const { return {key.Copy(), generation}; }
};
// The key of that generation. `generation` is not before that of `from`, and at most kMostGenerationsAhead after it.
crypto::SecretKey DeriveGeneration(const RootKeyGeneration& from, uint64_t generation);
// More would be no file that was left behind, but damage: a turn per hour for ten years.
inline constexpr uint64_t kMostGenerationsAhead = 100'000;
// Whether one of them is derived from the other, at most kMostGenerationsAhead before it.
bool AreOfOneKey(const RootKeyGeneration& one, const RootKeyGeneration& another);

// kNotFound when there is no file. kFailedPrecondition, with the path and the reason, when it is not a regular file (a
// symbolic link is not one), belongs to neither root nor this user, is open to group or others, or is damaged.
absl::StatusOr<RootKeyGeneration> ReadRootKeyFile(const std::string& path);

// Makes the file. Key and directory entry are on disk before this returns. kAlreadyExists when there is a file, which
// is left as it is; kFailedPrecondition, with the path, when it cannot be made.
absl::Status WriteRootKeyFile(const std::string& path, const RootKeyGeneration& root);

// The same with a new key. When another process was quicker, returns its key.
absl::StatusOr<RootKeyGeneration> CreateRootKeyFile(const std::string& path);

// Replaces the file by one of a later generation, which is on disk when this returns, and overwrites the bytes of the
// former one, under all of its names. A file system that copies on write, a snapshot or a flash memory may keep these
// all the same. Whoever reads meanwhile finds one or the other. A file of that generation or a later one stays as it
// is. When this fails or the process ends in between, another call finishes it. kFailedPrecondition, with the path,
// when the file holds another key, cannot be written, or is being replaced by another process.
absl::Status AdvanceRootKeyFile(const std::string& path, const RootKeyGeneration& to);

// Overwrites and removes what an AdvanceRootKeyFile that was interrupted left beside the file. Errors as there.
absl::Status FinishRootKeyFile(const std::string& path);

}  // namespace kveil::keys
