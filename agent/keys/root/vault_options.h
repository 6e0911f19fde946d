// Where a key of Transit is, and how the agent proves who it is. As in agent.json's `keys.root.vault`.
#pragma once

#include <chrono>
#include <string>

namespace kveil::keys {

struct VaultOptions {
  std::string address;            // "https://vault.example:8200", without a path
  std::string mount = "transit";  // of the Transit engine
  std::string key;
  std::string nameSpace;  // empty: none
  std::string ca;         // a PEM file; empty: the authorities of the system

  // How to get a token. A file is read whenever it is needed, as others replace it.
  enum class Auth { kTokenFile, kAppRole, kKubernetes };
  Auth auth = Auth::kTokenFile;
  std::string secretFile;  // with the token, the secret id, or the service account's token
  std::string role;        // the role id, or the role; not of kTokenFile
  std::string authMount;   // of the auth method; not of kTokenFile

  // A token that is refused is not replaced by another one more often than this: a policy that denies would otherwise
  // have the agent log in all the time.
  std::chrono::milliseconds loginPause = std::chrono::seconds(10);
  // How soon a lookup or a renewal of a token that could not be made is tried again.
  std::chrono::milliseconds askAgain{5'000};
};

}  // namespace kveil::keys
