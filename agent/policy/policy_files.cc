#include "policy/policy_files.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "bundle/digest.h"
#include "config/read_file.h"
#include "evidence/signing_key.h"

namespace kveil::policy {

absl::Status PolicyFiles::Add(const std::string& path, std::string_view bytes) {
  const std::string hash = evidence::Sha256Hex(bytes);
  if (manifest_ != nullptr) RETURN_IF_ERROR(manifest_->Has(path, hash));
  const auto [first, isFresh] = hashes_.emplace(path, hash);
  if (isFresh || first->second == hash) return absl::OkStatus();
  return absl::UnavailableError(StrCat(path, ": it changed while the policies were read"));
}

absl::Status PolicyFiles::CheckAllRead() const {
  if (manifest_ == nullptr) return absl::OkStatus();
  const std::map<std::string, std::string> read = ByName();
  for (const auto& [name, hash] : manifest_->files) {
    if (read.contains(name)) continue;
    return absl::FailedPreconditionError(StrCat(absl::CEscape(name), ": is in ", bundle::kManifestName, " (version ",
                                                manifest_->version, "), and is not there or no policy names it"));
  }
  return absl::OkStatus();
}

std::map<std::string, std::string> PolicyFiles::ByName() const {
  std::map<std::string, std::string> named;
  for (const auto& [path, hash] : hashes_) named.emplace(config::NameOf(path), hash);
  return named;
}

std::string PolicyFiles::Digest() const {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& [path, hash] : hashes_) files.emplace_back(config::NameOf(path), hash);
  return bundle::DigestOf(std::move(files));
}

}  // namespace kveil::policy
