// A root key at Azure Key Vault or at a Managed HSM: `keys.root.azureKeyVault`.
#pragma once

#include <string>

#include "config/named_key.h"

namespace kveil::config {

struct AzureConfig {
  std::string vault;      // "https://kveil.vault.azure.net"; http only on loopback
  std::string key;        // its name
  std::string resource;   // what tokens have to be for: "https://vault.azure.net"
  std::string authority;  // of Microsoft Entra ID: "https://login.microsoftonline.com"; http only on loopback
  std::string ca;         // path of a PEM file; empty: the system's authorities

  enum class Auth { kManagedIdentity, kClientSecret, kWorkloadIdentity };
  Auth auth = Auth::kManagedIdentity;
  std::string tenant;      // not of a managed identity
  std::string clientId;    // of a managed identity: empty for the system-assigned one
  std::string secretFile;  // path: the client secret, or the workload's token; not of a managed identity
};

class JsonValue;

AzureConfig ReadAzureKeyVault(const JsonValue& value, KeyNamedBy namedBy);

}  // namespace kveil::config
