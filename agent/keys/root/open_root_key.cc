// `file`, and those that are a network away or may take as long.
#include "keys/root/open_root_key.h"

#include <unistd.h>

#include "base/text.h"
#include "keys/names/key_names.h"
#include "keys/root/aws_root_key.h"
#include "keys/root/azure_root_key.h"
#include "keys/root/file_root_key.h"
#include "keys/root/gcp_root_key.h"
#include "keys/root/pkcs11_root_key.h"
#include "keys/root/remote_root_key.h"
#include "keys/root/vault_root_key.h"

namespace kveil::keys {
namespace {

absl::StatusOr<std::unique_ptr<RootKey>> Connect(std::string_view label, std::unique_ptr<RootKey> provider,
                                                 RootKey::Deadline deadline) {
  auto root =
      std::make_unique<RemoteRootKey>(std::move(provider), RemoteRootKey::Options{.provider = std::string(label)});
  if (absl::Status status = root->Ask(deadline); !status.ok()) return status;
  return root;
}

}  // namespace

KekOpener::KekOpener(RootKeyOptions provider) : provider_(std::move(provider)) {
  if (provider_.vault.has_value()) vault_ = std::make_shared<VaultSession>(*provider_.vault);
  if (provider_.aws.has_value()) aws_ = std::make_shared<AwsSession>(*provider_.aws);
  if (provider_.azure.has_value()) bearer_ = MakeAzureSession(*provider_.azure);
  if (provider_.gcp.has_value()) bearer_ = MakeGcpSession(*provider_.gcp);
  if (provider_.pkcs11.has_value()) token_ = std::make_shared<Pkcs11Token>(*provider_.pkcs11);
}

void KekOpener::Stop() {
  if (vault_ != nullptr) vault_->Stop();
  if (aws_ != nullptr) aws_->Stop();
  if (bearer_ != nullptr) bearer_->Stop();
  if (token_ != nullptr) token_->Stop();
}

absl::StatusOr<std::unique_ptr<RootKey>> KekOpener::Open(std::string_view key) const {
  RootKeyOptions provider = provider_;
  if (!CanBeKeyOf(provider, key)) {
    return absl::FailedPreconditionError("no key of the provider can have this name");
  }
  if (provider.openKek) return provider.openKek(key);
  if (provider.vault.has_value()) {
    provider.vault->key = key;
    return std::make_unique<VaultRootKey>(*provider.vault, vault_);
  }
  if (provider.aws.has_value()) {
    provider.aws->key = key;
    return std::make_unique<AwsRootKey>(*provider.aws, aws_);
  }
  if (provider.azure.has_value()) {
    provider.azure->key = key;
    return std::make_unique<AzureRootKey>(*provider.azure, bearer_);
  }
  if (provider.gcp.has_value()) {
    provider.gcp->key = key;
    return std::make_unique<GcpRootKey>(*provider.gcp, bearer_);
  }
  if (provider.pkcs11.has_value()) {
    provider.pkcs11->key = key;
    return std::make_unique<Pkcs11RootKey>(*provider.pkcs11, token_);
  }
  return absl::FailedPreconditionError("a file holds no KEKs");
}

absl::StatusOr<std::unique_ptr<RootKey>> OpenRootKey(const RootKeyOptions& options, bool mayCreate,
                                                     std::chrono::steady_clock::time_point deadline) {
  if (options.open) return options.open(deadline);
  if (options.vault.has_value()) return Connect("vault", std::make_unique<VaultRootKey>(*options.vault), deadline);
  if (options.aws.has_value()) return Connect("awsKms", std::make_unique<AwsRootKey>(*options.aws), deadline);
  if (options.azure.has_value()) {
    return Connect("azureKeyVault", std::make_unique<AzureRootKey>(*options.azure), deadline);
  }
  if (options.gcp.has_value()) return Connect("gcpKms", std::make_unique<GcpRootKey>(*options.gcp), deadline);
  if (options.pkcs11.has_value()) {
    return Connect("pkcs11", std::make_unique<Pkcs11RootKey>(*options.pkcs11), deadline);
  }
  return FileRootKey::Open(options.file, mayCreate);
}

std::optional<std::string> RootKeyOfSomeRegistry(const RootKeyOptions& options) {
  if (options.file.empty()) return std::nullopt;
  if (access(options.file.c_str(), F_OK) != 0) return std::nullopt;
  return StrCat("root key file ", options.file);
}

}  // namespace kveil::keys
