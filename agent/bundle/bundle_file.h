// A bundle as one file, which agents pull:
//
//   {"type": "kveil policy bundle 1", "manifest": BASE64, "signature": BASE64, "files": {"clickstream.json": BASE64}}
//
// In base64, so that the bytes are those that were signed, whatever the JSON went through.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bundle/manifest.h"
#include "evidence/signing_key.h"

namespace kveil::bundle {

inline constexpr size_t kLongestBundle = size_t{64} << 20;  // in bytes

// Its parts, as a folder has them.
struct BundleFile {
  std::string manifest;                      // the bytes of kManifestName
  std::string signature;                     // the bytes of kSignatureName
  std::map<std::string, std::string> files;  // name in the folder -> bytes
};

// The text of a folder's bundle. kFailedPrecondition: a file is not the one in the manifest; kInvalidArgument: the text
// would be longer than kLongestBundle; otherwise the errors of reading the files and of ParseManifest. Whose the
// signature is does not matter here.
absl::StatusOr<std::string> Pack(const std::string& folder);

// Takes the text apart, and knows nothing yet of who has made it: the names of files may be any. kInvalidArgument: one
// line "NAME: what is wrong".
absl::StatusOr<BundleFile> ParseBundle(std::string_view text, const std::string& name);

// The manifest, if one of the keys has signed it, and if the files are exactly those that it lists.
// kFailedPrecondition: they are not; otherwise the errors of ParseManifest. `name` stands for the file in messages.
absl::StatusOr<Manifest> Verify(const BundleFile& file, absl::Span<const evidence::SigningKey> trusted,
                                const std::string& name);

// Writes a bundle that was verified into an empty folder, on disk.
absl::Status Unpack(const BundleFile& file, const std::string& folder);

}  // namespace kveil::bundle
