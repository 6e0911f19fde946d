// Translates the configuration's `keys` into the key service's options.
#include "daemon/key_store.h"

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/names/key_names.h"
#include "keys/registry/open_registry.h"
#include "keys/registry/registry.h"
#include "keys/root/open_root_key.h"
#include "keys/root/root_key.h"
#include "keys/service/registry_keys.h"

namespace kveil::daemon {
namespace {

constexpr std::chrono::seconds kTimeLimit{15};  // for making a registry

keys::VaultOptions VaultOptionsOf(const config::VaultConfig& vault) {
  using From = config::VaultConfig::Auth;
  using To = keys::VaultOptions::Auth;
  return {
      .address = vault.address,
      .mount = vault.mount,
      .key = vault.key,
      .nameSpace = vault.nameSpace,
      .ca = vault.ca,
      .auth = vault.auth == From::kTokenFile ? To::kTokenFile
              : vault.auth == From::kAppRole ? To::kAppRole
                                             : To::kKubernetes,
      .secretFile = vault.secretFile,
      .role = vault.role,
      .authMount = vault.authMount,
  };
}

keys::AwsOptions AwsOptionsOf(const config::AwsConfig& aws) {
  return {.key = aws.key, .region = aws.region, .endpoint = aws.endpoint, .stsEndpoint = aws.stsEndpoint, .ca = aws.ca};
}

keys::AzureOptions AzureOptionsOf(const config::AzureConfig& azure) {
  using From = config::AzureConfig::Auth;
  using To = keys::AzureOptions::Auth;
  return {
      .vault = azure.vault,
      .key = azure.key,
      .resource = azure.resource,
      .authority = azure.authority,
      .ca = azure.ca,
      .auth = azure.auth == From::kManagedIdentity ? To::kManagedIdentity
              : azure.auth == From::kClientSecret  ? To::kClientSecret
                                                   : To::kWorkloadIdentity,
      .tenant = azure.tenant,
      .clientId = azure.clientId,
      .secretFile = azure.secretFile,
  };
}

keys::GcpOptions GcpOptionsOf(const config::GcpConfig& gcp) {
  return {.key = gcp.key, .endpoint = gcp.endpoint, .credentialsFile = gcp.credentialsFile, .ca = gcp.ca};
}

keys::Pkcs11Options Pkcs11OptionsOf(const config::Pkcs11Config& pkcs11) {
  using From = config::Pkcs11Config::Mechanism;
  using To = keys::Pkcs11Options::Mechanism;
  return {.module = pkcs11.module,
          .token = pkcs11.token,
          .key = pkcs11.key,
          .pinFile = pkcs11.pinFile,
          .mechanism = pkcs11.mechanism == From::kAesGcm ? To::kAesGcm : To::kAesKeyWrap};
}

keys::RootKeyOptions OptionsOf(const config::ProviderConfig& provider) {
  keys::RootKeyOptions options;
  if (provider.vault.has_value()) options.vault = VaultOptionsOf(*provider.vault);
  if (provider.aws.has_value()) options.aws = AwsOptionsOf(*provider.aws);
  if (provider.azure.has_value()) options.azure = AzureOptionsOf(*provider.azure);
  if (provider.gcp.has_value()) options.gcp = GcpOptionsOf(*provider.gcp);
  if (provider.pkcs11.has_value()) options.pkcs11 = Pkcs11OptionsOf(*provider.pkcs11);
  return options;
}

keys::RootKeyOptions RootKeyOptions(const config::KeysConfig& config) {
  keys::RootKeyOptions options = OptionsOf(config.rootKey);
  options.file = config.rootKeyFile;
  return options;
}

keys::RegistryOptions RegistryOptionsOf(const config::KeysConfig& config) {
  keys::RegistryOptions options;
  options.sqlite = config.registryPath;
  if (config.registryPostgres.has_value()) options.postgres = PostgresOptionsOf(*config.registryPostgres);
  return options;
}

}  // namespace

keys::PostgresOptions PostgresOptionsOf(const config::PostgresConfig& config) {
  keys::PostgresOptions options;
  options.parameters = config.parameters;
  for (const auto& [host, address, port] : config.servers) options.servers.push_back({host, address, port});
  return options;
}

keys::KeyServiceOptions KeyOptionsOf(const config::KeysConfig& config) {
  keys::KeyServiceOptions options;
  options.root = RootKeyOptions(config);
  for (const auto& [name, provider] : config.kekProviders) options.kekProviders.emplace(name, OptionsOf(provider));
  options.registry = RegistryOptionsOf(config);
  options.cacheTtl = config.cacheTtl;
  options.newUsersPerSecond = config.newUsersPerSecond;
  options.turnEvery = config.turnEpochsEvery;
  return options;
}

absl::Status CheckRootKeyFiles(const config::KeysConfig& keys) {
  std::vector<const config::ProviderConfig*> providers = {&keys.rootKey};
  for (const config::KekProviderConfig& kek : keys.kekProviders) providers.push_back(&kek.provider);
  for (const config::ProviderConfig* provider : providers) {
    if (!provider->pkcs11.has_value()) continue;
    RETURN_IF_ERROR(keys::CheckPkcs11Files(Pkcs11OptionsOf(*provider->pkcs11)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MakeKeyVersion(const config::KeysConfig& keys, std::string_view kek) {
  const config::ProviderConfig* provider = kek.empty() ? &keys.rootKey : nullptr;
  const std::string_view name = kek.substr(0, kek.find('/'));
  for (const config::KekProviderConfig& one : keys.kekProviders) {
    if (!kek.empty() && one.name == name) provider = &one.provider;
  }
  if (provider == nullptr) return absl::NotFoundError(StrCat("there is no provider ", name, " (keys.keks)"));
  if (!provider->pkcs11.has_value()) {
    return absl::FailedPreconditionError(
        "the key is in no PKCS#11 token: docs/keys.md says how its provider makes a new version");
  }
  keys::Pkcs11Options options = Pkcs11OptionsOf(*provider->pkcs11);
  if (!kek.empty()) options.key = name.size() < kek.size() ? kek.substr(name.size() + 1) : std::string_view();
  if (!keys::IsPkcs11KeyName(options.key)) return absl::InvalidArgumentError("name a KEK by PROVIDER/KEY");
  return keys::MakePkcs11Version(options);
}

absl::StatusOr<std::string> MakeRegistry(const config::KeysConfig& config) {
  const auto deadline = std::chrono::steady_clock::now() + kTimeLimit;
  const absl::StatusOr<std::unique_ptr<keys::RootKey>> root =
      keys::OpenRootKey(RootKeyOptions(config), /*mayCreate=*/false, deadline);
  if (absl::IsNotFound(root.status())) {
    return absl::NotFoundError(StrCat(ToStd(root.status().message()), "; make it first, by `kveil keys create-root`"));
  }
  RETURN_IF_ERROR(root.status());
  ASSIGN_OR_RETURN(const std::unique_ptr<keys::Registry> registry,
                   keys::OpenRegistry(RegistryOptionsOf(config), /*mustExist=*/false, deadline));
  ASSIGN_OR_RETURN(const std::optional<keys::Registry::Identity> identity, registry->ReadIdentity());
  if (identity.has_value()) {
    return absl::AlreadyExistsError(StrCat(registry->name(), " is there, and is left as it is"));
  }
  RETURN_IF_ERROR(keys::RegistryKeys::MakeFirst(**root, *registry, absl::Now(), deadline).status());
  return std::string(registry->name());
}

}  // namespace kveil::daemon
