#include "bundle/signature.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
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
constexpr mode_t kMode = 0644;

// As it is written, or where links lead.
bool IsInside(const std::string& path, const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // what cannot be found out is empty, and everything is inside that
  return config::IsInside(fs::absolute(path, ignored), fs::absolute(folder, ignored)) ||
         config::IsInside(fs::weakly_canonical(path, ignored), fs::weakly_canonical(folder, ignored));
}

// What is wrong with the key itself: a file that cannot be read keeps its own error.
absl::Status Unusable(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(StrCat("the trusted key ", path, ": ", why));
}

absl::StatusOr<SigningKey> ReadKey(const std::string& path, const std::string& folder) {
  if (IsInside(path, folder)) {
    return Unusable(path, StrCat("is inside ", folder, ", so who can write the policies could replace it"));
  }
  const absl::StatusOr<std::string> pem = config::ReadTextFile(path, kLongestKey);
  if (!pem.ok()) {
    return absl::Status(pem.status().code(), StrCat("the trusted key ", ToStd(pem.status().message())));
  }
  constexpr char kStart[] = "-----BEGIN ";
  const size_t start = pem->find(kStart);
  if (start != std::string::npos && pem->find(kStart, start + 1) != std::string::npos) {
    return Unusable(path, "holds more than one key: a file for each");
  }
  absl::StatusOr<SigningKey> key = SigningKey::FromPublicPem(*pem);
  if (!key.ok()) return Unusable(path, ToStd(key.status().message()));
  return key;
}

// Of a file of the bundle, of which one that is not there has a meaning.
absl::StatusOr<std::string> ReadPart(const std::string& path, size_t most) {
  absl::StatusOr<std::string> text = config::ReadTextFile(path, most);
  if (!absl::IsNotFound(text.status())) return text;
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
  // One that is not the signature's would have every agent refuse the policies that were in order.
  const std::string path = config::PathIn(folder, kManifestName);
  const absl::StatusOr<std::string> before = config::ReadTextFile(path, kLongestManifest);
  if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
  RETURN_IF_ERROR(evidence::WriteFile(path, text, kMode));
  const absl::Status written =
      evidence::WriteFile(config::PathIn(folder, kSignatureName), StrCat(absl::Base64Escape(signature), "\n"), kMode);
  if (written.ok()) return written;
  const absl::Status restored = before.ok() ? evidence::WriteFile(path, *before, kMode) : evidence::RemoveFile(path);
  if (restored.ok()) return written;
  return absl::UnavailableError(
      StrCat(ToStd(written.message()), "; nor can the manifest be put back: ", ToStd(restored.message())));
}

absl::StatusOr<Manifest> VerifyManifest(const std::string& text, const std::string& signature,
                                        absl::Span<const SigningKey> trusted, const std::string& place) {
  const std::string name = config::PathIn(place, kSignatureName);
  const auto text64 = absl::StripSuffix(signature, "\n");
  std::string bytes;
  // Decoding passes over white space and more. A signature that is spelled otherwise would be another file to a puller.
  if (!absl::Base64Unescape(text64, &bytes) || bytes.size() != kSignatureBytes || absl::Base64Escape(bytes) != text64) {
    return absl::FailedPreconditionError(StrCat(name, ": is no Ed25519 signature in base64"));
  }
  const bool isSigned =
      std::any_of(trusted.begin(), trusted.end(), [&](const SigningKey& key) { return key.Verifies(text, bytes); });
  if (!isSigned) {
    return absl::FailedPreconditionError(
        StrCat(name, ": is no signature of ", kManifestName, " by any of ", trusted.size(), " trusted key(s)"));
  }
  return ParseManifest(text, config::PathIn(place, kManifestName));
}

absl::StatusOr<std::vector<SigningKey>> ReadKeys(absl::Span<const std::string> keys, const std::string& folder) {
  std::vector<SigningKey> trusted;
  for (const std::string& path : keys) {
    ASSIGN_OR_RETURN(SigningKey key, ReadKey(path, folder));
    trusted.push_back(std::move(key));
  }
  return trusted;
}

absl::StatusOr<Manifest> ReadSigned(const std::string& folder, absl::Span<const std::string> keys) {
  ASSIGN_OR_RETURN(const std::vector<SigningKey> trusted, ReadKeys(keys, folder));
  return ReadSigned(folder, trusted);
}

absl::StatusOr<Manifest> ReadSigned(const std::string& folder, absl::Span<const SigningKey> trusted) {
  if (trusted.empty()) return absl::FailedPreconditionError("there is no trusted key");
  ASSIGN_OR_RETURN(const std::string text, ReadPart(config::PathIn(folder, kManifestName), kLongestManifest));
  ASSIGN_OR_RETURN(const std::string signature, ReadPart(config::PathIn(folder, kSignatureName), kLongestSignature));
  return VerifyManifest(text, signature, trusted, folder);
}

}  // namespace kveil::bundle
