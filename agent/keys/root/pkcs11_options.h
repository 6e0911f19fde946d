// Where a key of a PKCS#11 token is. As in agent.json's `keys.root.pkcs11`.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kveil::keys {

struct Pkcs11Options {
  std::string module;   // path of the token's library
  std::string token;    // its label
  std::string key;      // the label of an AES key in it
  std::string pinFile;  // path; read when the agent logs in

  enum class Mechanism { kAesGcm, kAesKeyWrap };
  Mechanism mechanism = Mechanism::kAesGcm;
};

// Whether the module can be loaded and the PIN read. Does not try the PIN.
absl::Status CheckPkcs11Files(const Pkcs11Options& options);

// Has the token make the next version of the key (pkcs11_root_key.h), and returns its name, for people: "PKCS#11 key
// root in token kveil: CKA_ID 02".
absl::StatusOr<std::string> MakePkcs11Version(const Pkcs11Options& options);

}  // namespace kveil::keys
