// Policies that may take force: whatever is in their folder, or only what a trusted key has signed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bundle/accepted_version.h"
#include "bundle/manifest.h"
#include "config/config.h"
#include "policy/policy.h"

namespace kveil::policy {

// Who may change the policies. Without it, whoever may write into their folder.
struct Trust {
  std::vector<std::string> keys;  // PEM files with the public keys, one of which has to have signed them
  int64_t minimumVersion = 0;
  // The file that remembers the highest version that took force (bundle/accepted_version.h); empty: none does.
  std::string accepted;
};

// nullopt: the configuration trusts no keys.
std::optional<Trust> TrustOf(const config::AgentConfig& config);

// Whether policies of which somebody has signed this may take force in place of `current` (nullptr: there is none).
// Errors: those of AcceptedVersion::Check; kFailedPrecondition: `current` is newer.
absl::Status MayFollow(const bundle::Manifest& manifest, const bundle::AcceptedVersion& accepted,
                       const Policy* current);

struct SignedPolicies {
  std::shared_ptr<const Policy> policy;
  bundle::Manifest manifest;
};

// What of the folder may take force in place of `current` (nullptr: there is none): one of the keys has signed it, and
// it is not older than `current` or than what was accepted. Nothing is parsed before it is verified, and nothing is
// remembered. Errors: those of bundle::ReadSigned, MayFollow and Policy::LoadSigned.
absl::StatusOr<SignedPolicies> LoadSigned(const std::string& folder, const std::vector<std::string>& keys,
                                          const bundle::AcceptedVersion& accepted, const Policy* current = nullptr);

// The same of any folder, as an agent reads it when it starts.
absl::StatusOr<std::shared_ptr<const Policy>> LoadPolicies(const std::string& folder,
                                                           const std::optional<Trust>& trust);

}  // namespace kveil::policy
