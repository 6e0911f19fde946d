#include "bundle/signature.h"

#include <algorithm>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "config/read_file.h"
#include "evidence/small_file.h"

namespace kveil::bundle {
namespace {

using evidence::SigningKey;

constexpr size_t kSignatureBytes = 64;  // RFC 8032 section 5.1.6
constexpr size_t kLongestKey = 1 << 20;
constexpr size_t kLongestSignature = 1 << 20;

std::string PathOf(const std::string& folder, const char* name) {
  return StrCat(folder, folder.ends_with("/") ? "" : "/", name);
}

absl::StatusOr<std::vector<SigningKey>> ReadKeys(absl::Span<const std::string> paths) {
  if (paths.empty()) return absl::FailedPreconditionError("there is no trusted key");
  std::vector<SigningKey> keys;
  for (const std::string& path : paths) {
    const absl::StatusOr<std::string> pem = config::ReadTextFile(path, kLongestKey);
    if (!pem.ok()) {
      return absl::FailedPreconditionError(StrCat("the trusted key ", ToStd(pem.status().message())));
    }
    absl::StatusOr<SigningKey> key = SigningKey::FromPublicPem(*pem);
    if (!key.ok()) {
      return absl::FailedPreconditionError(StrCat("the trusted key ", path, ": ", ToStd(key.status().message())));
    }
    keys.push_back(*std::move(key));
  }
  return keys;
}

// Of a file of the bundle, of which one that is not there has a meaning.
absl::StatusOr<std::string> ReadPart(const std::string& path, size_t most) {
  absl::StatusOr<std::string> text = config::ReadTextFile(path, most);
  if (text.ok()) return text;
  if (!absl::IsNotFound(text.status())) return absl::FailedPreconditionError(text.status().message());
  return absl::FailedPreconditionError(StrCat(
      path, ": there is none, and only policies that a trusted key has signed may take force (policies.trustedKeys)"));
}

}  // namespace

absl::Status Sign(const std::string& folder, const Manifest& manifest, const SigningKey& key) {
  RETURN_IF_ERROR(Check(manifest));
  const std::string text = TextOf(manifest);
  if (text.size() > kLongestManifest) return absl::InvalidArgumentError("the manifest would be longer than 1 MiB");
  const std::string signature = key.Sign(text);
  if (signature.empty()) return absl::InternalError("OpenSSL cannot sign");
  RETURN_IF_ERROR(evidence::WriteFile(PathOf(folder, kManifestName), text, 0644));
  return evidence::WriteFile(PathOf(folder, kSignatureName), StrCat(absl::Base64Escape(signature), "\n"), 0644);
}

absl::StatusOr<Manifest> ReadSigned(const std::string& folder, absl::Span<const std::string> keys) {
  ASSIGN_OR_RETURN(const std::vector<SigningKey> trusted, ReadKeys(keys));
  const std::string path = PathOf(folder, kManifestName), signaturePath = PathOf(folder, kSignatureName);
  ASSIGN_OR_RETURN(const std::string text, ReadPart(path, kLongestManifest));
  ASSIGN_OR_RETURN(const std::string encoded, ReadPart(signaturePath, kLongestSignature));
  std::string signature;
  if (!absl::Base64Unescape(absl::StripSuffix(encoded, "\n"), &signature) || signature.size() != kSignatureBytes) {
    return absl::FailedPreconditionError(StrCat(signaturePath, ": is no Ed25519 signature in base64"));
  }
  const bool isSigned =
      std::any_of(trusted.begin(), trusted.end(), [&](const SigningKey& key) { return key.Verifies(text, signature); });
  if (!isSigned) {
    return absl::FailedPreconditionError(StrCat(signaturePath, ": is no signature of ", kManifestName, " by any of ",
                                                trusted.size(), " trusted key(s)"));
  }
  return ParseManifest(text, path);
}

}  // namespace kveil::bundle
