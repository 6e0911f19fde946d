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

class AwsSession;
class BearerSession;
class Pkcs11Token;
class RootKey;
class VaultSession;

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

// A provider's keys by their names. They share one session there: a token, credentials, a login. Any thread may call.
class KekOpener {
 public:
  explicit KekOpener(RootKeyOptions provider);
  // The key takes the place of the one in the options. Nobody is asked, and there is nothing around it: it makes one
  // attempt per call. kFailedPrecondition: no key can have this name there.
  absl::StatusOr<std::unique_ptr<RootKey>> Open(std::string_view key) const;
  // As RootKey::Stop, for all keys that were opened or will be.
  void Stop();

 private:
  const RootKeyOptions provider_;
  // That of the provider; the others are none.
  std::shared_ptr<VaultSession> vault_;
  std::shared_ptr<AwsSession> aws_;
  std::shared_ptr<BearerSession> bearer_;
  std::shared_ptr<Pkcs11Token> token_;
};

// The name of the root key, if it is one that is made together with its registry, and is there. Then a registry that is
// missing was lost. nullopt for a root key that the operator makes: it says nothing about registries.
std::optional<std::string> RootKeyOfSomeRegistry(const RootKeyOptions& options);

}  // namespace kveil::keys
