// Where a key of Azure Key Vault or of a Managed HSM is, and how the agent proves who it is. As in agent.json's
// `keys.root.azureKeyVault`.
#pragma once

#include <chrono>
#include <string>

namespace kveil::keys {

struct AzureOptions {
  std::string vault;      // "https://NAME.vault.azure.net", without a path
  std::string key;        // its name; the newest version of it wraps
  std::string resource;   // what tokens have to be for: "https://vault.azure.net"
  std::string authority;  // of Microsoft Entra ID: "https://login.microsoftonline.com", without a path
  std::string ca;         // a PEM file; empty: the authorities of the system

  enum class Auth { kManagedIdentity, kClientSecret, kWorkloadIdentity };
  Auth auth = Auth::kManagedIdentity;
  std::string tenant;      // not of kManagedIdentity
  std::string clientId;    // of kManagedIdentity: the user-assigned identity; empty: the system-assigned one
  std::string secretFile;  // with the client secret, or the token of the workload; not of kManagedIdentity

  // The instance metadata service, the same on every virtual machine.
  std::string metadata = "http://169.254.169.254";

  // As CredentialCache has them.
  std::chrono::milliseconds replacePause = std::chrono::seconds(10);
  std::chrono::milliseconds leastAge = std::chrono::seconds(60);
};

}  // namespace kveil::keys
