// `kveil policy keygen`, `sign`, `pack` and `verify`: policies that only who has a key can change.
#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/time_text.h"
#include "bundle/accepted_version.h"
#include "bundle/bundle_file.h"
#include "bundle/signature.h"
#include "cli/common.h"
#include "config/pull_config.h"
#include "config/read_file.h"
#include "evidence/signing_key.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"
#include "policy/policy.h"
#include "policy/signed_policies.h"

namespace kveil::cli {
namespace {

using bundle::Manifest;
using evidence::SigningKey;
using policy::Policy;

void Print(const CommonOptions& common, const std::string& folder, const Policy& policies, const Manifest& manifest) {
  if (common.json) {
    std::cout << nlohmann::ordered_json({{"folder", folder},
                                         {"version", manifest.version},
                                         {"created", manifest.created},
                                         {"files", manifest.files},
                                         {"digest", policies.digest()}})
                     .dump(2, ' ', false, nlohmann::json::error_handler_t::replace)
              << "\n";
    return;
  }
  std::cout << folder << ": version " << manifest.version << " of " << manifest.created << ", SHA-256 "
            << policies.digest() << "\n";
  for (const auto& [name, hash] : manifest.files) std::cout << "  " << absl::CEscape(name) << "\n";
}

absl::Status Make(const std::string& path) {
  for (const std::string& file : {path, path + ".pub"}) {
    if (::access(file.c_str(), F_OK) == 0) {
      return absl::AlreadyExistsError(StrCat(file, " exists, and is left as it is"));
    }
  }
  ASSIGN_OR_RETURN(const SigningKey key, SigningKey::Make());
  RETURN_IF_ERROR(key.Write(path));
  const absl::Status written = evidence::WriteFile(path + ".pub", key.PublicPem(), 0644);
  if (!written.ok()) RETURN_IF_ERROR(evidence::RemoveFile(path));  // half a pair would be in the way of the next try
  return written;
}

// No agent that has the policies from before takes what is not newer.
void WarnIfNotNewer(const std::string& folder, const Manifest& manifest) {
  const std::string path = config::PathIn(folder, bundle::kManifestName);
  const absl::StatusOr<std::string> text = config::ReadTextFile(path);
  if (!text.ok()) return;
  const absl::StatusOr<Manifest> before = bundle::ParseManifest(*text, path);
  if (!before.ok() || manifest.version > before->version) return;
  if (manifest.version == before->version && manifest.files == before->files) return;
  Warn("policy sign", StrCat("version ", before->version,
                             " is in the folder already, with other files: agents that have "
                             "accepted it will refuse version ",
                             manifest.version));
}

absl::Status SignFolder(const CommonOptions& common, const PolicySignOptions& options) {
  ASSIGN_OR_RETURN(const SigningKey key, SigningKey::Read(options.key));
  ASSIGN_OR_RETURN(const std::shared_ptr<const Policy> policies, Policy::Load({options.folder}));
  Manifest manifest;
  manifest.version = options.version;
  manifest.created = UtcText(absl::Now());
  manifest.files = policies->hashes();
  RETURN_IF_ERROR(bundle::Check(manifest));
  // As an agent reads it, before what was signed last is replaced.
  RETURN_IF_ERROR(Policy::LoadSigned(options.folder, manifest).status());
  WarnIfNotNewer(options.folder, manifest);
  RETURN_IF_ERROR(bundle::Sign(options.folder, manifest, key));
  ASSIGN_OR_RETURN(const Manifest written, bundle::ReadSigned(options.folder, absl::MakeConstSpan(&key, 1)));
  Print(common, options.folder, *policies, written);
  return absl::OkStatus();
}

// With the keys of the configuration, as the agent of this node would. With others, it is a folder of anywhere.
absl::Status VerifyFolder(const CommonOptions& common, PolicySignOptions options) {
  policy::Trust trust{options.trusted, 0, ""};
  if (options.folder.empty() || options.trusted.empty()) {
    ASSIGN_OR_RETURN(const config::AgentConfig config, ReadConfig(common));
    if (options.folder.empty()) options.folder = config.policies.folder;
    if (options.trusted.empty()) {
      const std::optional<policy::Trust> configured = policy::TrustOf(config);
      if (!configured.has_value()) {
        return absl::InvalidArgumentError("the configuration has no policies.trustedKeys, so name a key with --key");
      }
      trust = *configured;
    }
  }
  const bundle::AcceptedVersion accepted(trust.accepted, trust.minimumVersion);
  ASSIGN_OR_RETURN(const policy::SignedPolicies loaded, policy::LoadSigned(options.folder, trust.keys, accepted));
  Print(common, options.folder, *loaded.policy, loaded.manifest);
  return absl::OkStatus();
}

absl::Status PackFolder(const PolicyPackOptions& options) {
  ASSIGN_OR_RETURN(const std::string packed, bundle::Pack(options.folder));
  RETURN_IF_ERROR(evidence::WriteFile(std::filesystem::absolute(options.file).string(), packed, 0644));
  std::cout << "made " << options.file << " of " << options.folder << ", " << packed.size() << " bytes\n";
  if (packed.size() > config::PullConfig().maxSize) {
    Warn("policy pack", StrCat("agents refuse a bundle of more than ", config::PullConfig().maxSize >> 20,
                               " MiB, unless policies.pull.maxSize is higher"));
  }
  return absl::OkStatus();
}

int Exit(std::string_view command, const absl::Status& status) { return status.ok() ? 0 : Fail(command, status); }

}  // namespace

int RunPolicyKeygen(const std::string& path) {
  const absl::Status status = Make(std::filesystem::absolute(path).string());
  if (!status.ok()) return Fail("policy keygen", status);
  std::cout << "made " << path << ", which signs, and " << path << ".pub, which agents trust\n"
            << "keep " << path << " away from the nodes: who has it decides what every agent does\n";
  return 0;
}

int RunPolicySign(const CommonOptions& common, const PolicySignOptions& options) {
  return Exit("policy sign", SignFolder(common, options));
}

int RunPolicyPack(const PolicyPackOptions& options) { return Exit("policy pack", PackFolder(options)); }

int RunPolicyVerify(const CommonOptions& common, const PolicySignOptions& options) {
  return Exit("policy verify", VerifyFolder(common, options));
}

}  // namespace kveil::cli
