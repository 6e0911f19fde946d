// The signature of a manifest: Ed25519 (RFC 8032) over its bytes, in base64, in a file beside it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bundle/manifest.h"
#include "evidence/signing_key.h"

namespace kveil::bundle {

inline constexpr size_t kLongestSignature = 1 << 20;  // of the file, in bytes; what is good is far shorter

// Writes the manifest and its signature into the folder. Whoever reads the folder between the two sees a signature that
// is not the manifest's. Errors: those of Check, kUnavailable where they cannot be written; what was there is there
// again then, unless the message says that it is not.
absl::Status Sign(const std::string& folder, const Manifest& manifest, const evidence::SigningKey& key);

// The manifest with this text, if one of the keys has made the signature (in base64, as its file has it: one spelling
// of each). Nothing is parsed before. `place`: where the two are, for messages. kFailedPrecondition: none of them has;
// otherwise the errors of ParseManifest.
absl::StatusOr<Manifest> VerifyManifest(const std::string& text, const std::string& signature,
                                        absl::Span<const evidence::SigningKey> trusted, const std::string& place);

// The public keys of PEM files, one in each, none of them inside of `folder`. kFailedPrecondition: one cannot be used;
// otherwise the errors of reading files.
absl::StatusOr<std::vector<evidence::SigningKey>> ReadKeys(absl::Span<const std::string> keys,
                                                           const std::string& folder);

// The folder's manifest, if one of the keys has signed it. Nothing of it is parsed before. `keys`: PEM files, each with
// one public key. kFailedPrecondition: there is no manifest or no signature, it is none of these keys', or a key cannot
// be used, or is inside the folder; otherwise the errors of ParseManifest, and those of reading files.
absl::StatusOr<Manifest> ReadSigned(const std::string& folder, absl::Span<const std::string> keys);
absl::StatusOr<Manifest> ReadSigned(const std::string& folder, absl::Span<const evidence::SigningKey> keys);

}  // namespace kveil::bundle
