// What the root key wraps: the registry's secret and its epoch keys, and what the two are used for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "crypto/secret.h"
#include "keys/registry/registry.h"
#include "keys/root/root_key.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

// Turns names into the registry's subjects, scope keys into rows, and rows into scope keys. One thread uses it.
class RegistryKeys {
 public:
  // Makes the secret and the first epoch key of a new registry. OK too when another agent was quicker.
  static absl::Status MakeFirst(RootKey& root, Registry& registry, absl::Time now, RootKey::Deadline deadline);

  // Reads and unwraps them. kFailedPrecondition: the root key does not fit the registry. kDataLoss: an epoch key is
  // damaged, or there is none. Other errors are those of the root key or the registry.
  static absl::StatusOr<RegistryKeys> Load(RootKey& root, Registry& registry, const Registry::Identity& identity,
                                           RootKey::Deadline deadline);

  // Reads and unwraps the epoch keys again. When that fails, those in use stay.
  absl::Status ReloadEpochs(RootKey& root, Registry& registry, RootKey::Deadline deadline);
  // Whether ReloadEpochs would work now. Changes nothing.
  absl::Status TryEpochs(RootKey& root, Registry& registry, RootKey::Deadline deadline) const;

  const crypto::SecretKey& secret() const { return secret_; }
  Subject SubjectOf(const ScopeName& name) const;

  struct NewKey {
    crypto::SecretKey key;
    Registry::Row row;
  };
  // A new scope key, wrapped by the newest epoch key.
  NewKey MakeKey(Scope scope, const Registry::RowName& name) const;
  // The scope key of an active row. kDataLoss: the row does not give the key that its id commits to.
  absl::StatusOr<crypto::SecretKey> Unwrap(const Registry::Row& row) const;

 private:
  using Epochs = std::map<int64_t, crypto::SecretKey>;

  RegistryKeys(std::string registryName, const RegistryId& id, crypto::SecretKey secret)
      : registryName_(std::move(registryName)), id_(id), secret_(std::move(secret)) {}

  absl::StatusOr<Epochs> UnwrapEpochs(RootKey& root, Registry& registry, RootKey::Deadline deadline) const;

  std::string registryName_;
  RegistryId id_;
  crypto::SecretKey secret_;
  Epochs epochs_;  // at least one
};

}  // namespace kveil::keys
