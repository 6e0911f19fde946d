// Opens the root key that the configuration names. A new provider gets its member and its branch here.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "keys/root/aws_options.h"
#include "keys/root/azure_options.h"
#include "keys/root/gcp_options.h"
#include "keys/root/pkcs11_options.h"
#include "keys/root/vault_options.h"

namespace kveil::keys {

class RootKey;

// Exactly one member is set, as in agent.json's `keys.root`.
struct RootKeyOptions {
  std::string file;  // path
  std::optional<VaultOptions> vault;
  std::optional<AwsOptions> aws;
  std::optional<AzureOptions> azure;
  std::optional<GcpOptions> gcp;
  std::optional<Pkcs11Options> pkcs11;
  // For tests: opens one that is none of the above.
  std::function<absl::StatusOr<std::unique_ptr<RootKey>>(std::chrono::steady_clock::time_point deadline)> open;
  std::function<absl::StatusOr<std::unique_ptr<RootKey>>(std::string_view key)> openKek;  // likewise
};

// Opens the root key, and asks one that is a network away whether it is there and may be used. A provider that makes
// its own key (`file`) does so if there is none and `mayCreate` is set, which it is beside a new registry only; without
// it, kNotFound. Other errors as in RootKey.
absl::StatusOr<std::unique_ptr<RootKey>> OpenRootKey(const RootKeyOptions& options, bool mayCreate,
                                                     std::chrono::steady_clock::time_point deadline);

// One of the provider's keys by its name, which takes the place of the one in `provider`. Nobody is asked, and there is
// nothing around it: it makes one attempt per call. kFailedPrecondition: no key can have this name there.
absl::StatusOr<std::unique_ptr<RootKey>> OpenKek(RootKeyOptions provider, std::string_view key);

// The name of the root key, if it is one that is made together with its registry, and is there. Then a registry that is
// missing was lost. nullopt for a root key that the operator makes: it says nothing about registries.
std::optional<std::string> RootKeyOfSomeRegistry(const RootKeyOptions& options);

}  // namespace kveil::keys
