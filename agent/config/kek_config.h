// Where keys are: the root key, and the key-encryption keys (KEKs) that policies name: `keys.root` and `keys.keks`.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/aws_config.h"
#include "config/azure_config.h"
#include "config/gcp_config.h"
#include "config/pkcs11_config.h"
#include "config/vault_config.h"

namespace kveil::config {

// One of them is set, or none: the root key is a file.
struct ProviderConfig {
  std::optional<VaultConfig> vault;
  std::optional<AwsConfig> aws;
  std::optional<AzureConfig> azure;
  std::optional<GcpConfig> gcp;
  std::optional<Pkcs11Config> pkcs11;
};

// A provider of KEKs. Its options have no key: policies name the keys.
struct KekProviderConfig {
  std::string name;
  ProviderConfig provider;
};
inline constexpr size_t kMostKekProviders = 16;

class JsonObject;
class JsonValue;

// What the object's one member has, which is of this kind: "vault", "awsKms", ...
ProviderConfig ReadProvider(const JsonObject& object, std::string_view kind, KeyNamedBy namedBy);
// In the order of their names.
std::vector<KekProviderConfig> ReadKekProviders(const JsonValue& value);

}  // namespace kveil::config
