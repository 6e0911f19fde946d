#include "policy/signed_policies.h"

#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "bundle/signature.h"

namespace kveil::policy {
namespace {

// Also where the file that remembers the version is lost: what runs is known all the same.
absl::Status CheckFollows(const bundle::Manifest& manifest, const Policy& current) {
  if (manifest.version < current.version()) {
    return absl::FailedPreconditionError(StrCat("the policies are version ", manifest.version, ", and version ",
                                                current.version(),
                                                " is in force. To go back, sign the old files with a higher version"));
  }
  if (manifest.version == current.version() && manifest.Digest() != current.digest()) {
    return absl::FailedPreconditionError(StrCat("version ", manifest.version,
                                                " of the policies is in force with other files. Sign what has changed "
                                                "with a higher version"));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<Trust> TrustOf(const config::AgentConfig& config) {
  if (config.policies.trustedKeys.empty()) return std::nullopt;
  return Trust{config.policies.trustedKeys, config.policies.minimumVersion, config::AcceptedPoliciesFile(config.keys)};
}

absl::Status MayFollow(const bundle::Manifest& manifest, const bundle::AcceptedVersion& accepted,
                       const Policy* current) {
  // First, so that nobody is told to remove a damaged file in favour of an older version.
  if (current != nullptr) RETURN_IF_ERROR(CheckFollows(manifest, *current));
  return accepted.Check(manifest.version, manifest.Digest());
}

absl::StatusOr<SignedPolicies> LoadSigned(const std::string& folder, const std::vector<std::string>& keys,
                                          const bundle::AcceptedVersion& accepted, const Policy* current) {
  ASSIGN_OR_RETURN(bundle::Manifest manifest, bundle::ReadSigned(folder, keys));
  RETURN_IF_ERROR(MayFollow(manifest, accepted, current));
  ASSIGN_OR_RETURN(std::shared_ptr<const Policy> policy, Policy::LoadSigned(folder, manifest));
  return SignedPolicies{std::move(policy), std::move(manifest)};
}

absl::StatusOr<std::shared_ptr<const Policy>> LoadPolicies(const std::string& folder,
                                                           const std::optional<Trust>& trust) {
  if (!trust.has_value()) return Policy::Load({folder});
  const bundle::AcceptedVersion accepted(trust->accepted, trust->minimumVersion);
  ASSIGN_OR_RETURN(SignedPolicies loaded, LoadSigned(folder, trust->keys, accepted));
  return std::move(loaded.policy);
}

}  // namespace kveil::policy
