// What a signature of policies covers: their version, and which files they are.
//
//   {"type": "kveil policies 1", "version": 7, "created": "2026-11-29T20:04:48Z",
//    "files": {"clickstream.json": "9f86d081...", "support-users.txt": "60303ae2..."}}
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/whole_number.h"

namespace kveil::bundle {

inline constexpr char kManifestName[] = "policies.manifest";
inline constexpr char kSignatureName[] = "policies.manifest.sig";

inline constexpr int64_t kHighestVersion = config::kHighestWholeNumber;
inline constexpr size_t kMostFiles = 1024;
inline constexpr size_t kLongestName = 251;  // of a file, in bytes: NAME_MAX without the ".new" that writing it takes
inline constexpr size_t kLongestManifest = 1 << 20;  // in bytes

struct Manifest {
  int64_t version = 0;                       // 1 to kHighestVersion; grows with each change
  std::string created;                       // RFC 3339, for people
  std::map<std::string, std::string> files;  // name in the folder -> SHA-256 in lower-case hexadecimal digits

  std::string Digest() const;  // of the files

  // Names in messages have no control characters: whoever can write the folder has chosen them.

  // Whether the file may be read, before it is. kFailedPrecondition: it is not in the manifest.
  absl::Status Lists(const std::string& path) const;
  // Whether these are the file's bytes, before they are parsed. `hash`: their SHA-256, as `files` has it.
  // kFailedPrecondition: they are not, or the file is not in the manifest. Neither the bytes nor their hash, of which a
  // short secret is guessed, are in the message: the path may be a link to a file that only the agent can read.
  absl::Status Has(const std::string& path, std::string_view hash) const;
};

// kInvalidArgument: more files than kMostFiles, a name that a folder of policies does not read or JSON does not have,
// or a version out of bounds. One line, which says what is wrong.
absl::Status Check(const Manifest& manifest);

// As JSON. `manifest` passes Check.
std::string TextOf(const Manifest& manifest);

// `name` stands for the file in errors. kInvalidArgument: one line "NAME: JSON POINTER: what was expected and found".
absl::StatusOr<Manifest> ParseManifest(std::string_view text, const std::string& name);

}  // namespace kveil::bundle
