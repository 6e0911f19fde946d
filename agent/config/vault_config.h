// A root key at HashiCorp Vault or OpenBao: `keys.root.vault`.
#pragma once

#include <string>

#include "config/named_key.h"

namespace kveil::config {

struct VaultConfig {
  std::string address;  // "https://vault.example:8200"; http only on loopback
  std::string mount = "transit";
  std::string key;
  std::string nameSpace;  // empty: none
  std::string ca;         // path of a PEM file; empty: the system's authorities

  enum class Auth { kTokenFile, kAppRole, kKubernetes };
  Auth auth = Auth::kTokenFile;
  std::string secretFile;  // path: the token, the secret id, or the service account's token
  std::string role;        // the role id of AppRole, the role of Kubernetes
  std::string authMount;   // of either
};

class JsonValue;

VaultConfig ReadVault(const JsonValue& value, KeyNamedBy namedBy);

}  // namespace kveil::config
