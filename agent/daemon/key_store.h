// The root key and the registry that a configuration names.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "config/config.h"
#include "keys/service/key_service.h"

namespace kveil::daemon {

// What the key service is to open.
keys::KeyServiceOptions KeyOptionsOf(const config::KeysConfig& config);

// The database that a connection string names.
keys::PostgresOptions PostgresOptionsOf(const config::PostgresConfig& config);

// Makes an empty registry under the root key, which must be there. An agent makes one only together with its root key:
// a root key without its registry looks like a registry that was lost. Returns the registry's name. kAlreadyExists:
// there is one, and it is left as it is. Other errors are those of the registry and the root key.
absl::StatusOr<std::string> MakeRegistry(const config::KeysConfig& config);

// Has the token of the root key make its next version or, with `kek` (PROVIDER/KEY, as in keys.keks), that of the KEK.
// Returns what was made, for people: "PKCS#11 key root in token kveil: CKA_ID 02". kFailedPrecondition: the key is in
// no PKCS#11 token, or needs the operator. Other errors as of RootKey.
absl::StatusOr<std::string> MakeKeyVersion(const config::KeysConfig& keys, std::string_view kek);

// OK if the files can be used that a root key in a PKCS#11 token needs: its module, and the PIN. Any other root key,
// and whether the token takes the PIN, is looked at when the agent starts.
absl::Status CheckRootKeyFiles(const config::KeysConfig& keys);

}  // namespace kveil::daemon
