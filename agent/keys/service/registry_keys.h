// What the root key wraps: the registry's secret and its epoch keys, and what the two are used for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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
  // Makes the secret and the first epoch key of a new registry. When another agent was quicker, its own are loaded.
  // Errors as of Load: kFailedPrecondition when that one has another root key.
  static absl::StatusOr<RegistryKeys> MakeFirst(RootKey& root, Registry& registry, absl::Time now,
                                                RootKey::Deadline deadline);

  // Reads and unwraps them. kFailedPrecondition: the root key does not fit the registry, or what the registry was
  // wrapped by is destroyed: it is an old copy. kDataLoss: an epoch key is
  // damaged, or there is none. Other errors are those of the root key or the registry.
  static absl::StatusOr<RegistryKeys> Load(RootKey& root, Registry& registry, const Registry::Identity& identity,
                                           RootKey::Deadline deadline);

  // An epoch key as the registry has it, and as the root key has unwrapped it.
  struct EpochKey {
    ByteBuffer wrapped;
    crypto::SecretKey key;
    crypto::SecretKey shortRows;  // derived from it: wraps the keys of rows in 32 bytes (crypto::WrapKnownKey)
  };
  using Epochs = std::map<int64_t, EpochKey>;
  // Whose epochs they are.
  struct Owner {
    RegistryId id{};
    std::string name;
  };
  // The registry's epochs, at least one. kDataLoss: there is none. Other errors are the registry's.
  static absl::StatusOr<std::vector<Registry::Epoch>> ReadEpochs(Registry& registry);
  // Has the root key unwrap all of them. Any thread may call. Errors as of Load.
  static absl::StatusOr<Epochs> UnwrapEpochs(RootKey& root, const Owner& owner,
                                             const std::vector<Registry::Epoch>& rows, RootKey::Deadline deadline);

  const Owner& owner() const { return owner_; }
  // Whether all of the registry's epoch keys are known, byte for byte.
  bool Knows(const std::vector<Registry::Epoch>& rows) const;
  // Adds what was unwrapped.
  void Add(Epochs epochs);
  // Has new scope keys be of the newest epoch that is used. The registry's epoch keys are known.
  void Follow(const std::vector<Registry::Epoch>& rows);
  // Forgets the keys of all other epochs than the registry's.
  void DropOthers(const std::vector<Registry::Epoch>& rows);
  bool HasEpoch(int64_t number) const { return epochs_.contains(number); }
  int64_t newestEpoch() const { return epochs_.rbegin()->first; }
  int64_t epochInUse() const { return epochInUse_; }

  // What the root key has to unwrap, for a registry with this one epoch only, with what it was wrapped for.
  struct Wrapped {
    ByteBuffer secret, secretContext, epoch, epochContext;
    std::vector<RootKey::WrappedKey> all() const { return {{secret, secretContext}, {epoch, epochContext}}; }
  };
  static Wrapped WrappedOf(const Registry::Identity& identity, const Registry::Epoch& epoch);
  // Whether another wrapped form of the secret unwraps to it. kDataLoss: it does not. Other errors: the root key's.
  absl::Status CheckSecret(RootKey& root, Bytes wrapped, RootKey::Deadline deadline) const;

  // Something of the registry that the root key has wrapped, with what it was wrapped for.
  struct OfRoot {
    int64_t epoch = 0;  // whose key it is; 0: the secret
    ByteBuffer wrapped, context;
  };
  // The secret first, then the epochs' keys.
  static std::vector<OfRoot> AllOfRoot(const Registry::Identity& identity, const std::vector<Registry::Epoch>& epochs);
  // Whether it is that epoch's key; 0: the secret.
  bool IsKeyOf(int64_t epoch, const crypto::SecretKey& key) const;

  const crypto::SecretKey& secret() const { return secret_; }
  Subject SubjectOf(const ScopeName& name) const;

  struct NewKey {
    crypto::SecretKey key;
    Registry::Row row;
  };
  // What the keys of some rows are wrapped by, inside of what the epoch key wraps (kek_keys.h).
  struct KekKey {
    crypto::KeyId id;
    const crypto::SecretKey* key;
  };
  // A new scope key, wrapped by the epoch key in use: in 32 bytes, or 60 where an agent of an earlier version may read
  // it. `kek`: nullptr: by nothing else.
  NewKey MakeKey(Scope scope, const Registry::RowName& name, const KekKey* kek = nullptr) const;
  // An active row, of the epoch in use. Its key, and so its id, stay, and so does the size of what is wrapped. Errors
  // as of Unwrap.
  absl::StatusOr<Registry::Row> Rewrap(const Registry::Row& row) const;
  // The scope key of an active row that no KEK key has wrapped. kDataLoss: the row does not give the key that its id
  // commits to.
  absl::StatusOr<crypto::SecretKey> Unwrap(const Registry::Row& row) const;
  // Whether a KEK key has wrapped the row's key.
  static bool IsUnderKek(const Registry::Row& row);
  // Which one has, and what. Errors as of Unwrap.
  struct UnderKek {
    crypto::KeyId kek;
    ByteBuffer wrapped;
  };
  absl::StatusOr<UnderKek> OpenUnderKek(const Registry::Row& row) const;
  // `kek`: the one that `under` names.
  absl::StatusOr<crypto::SecretKey> Unwrap(const Registry::Row& row, const UnderKek& under,
                                           const crypto::SecretKey& kek) const;

  // What a provider of KEKs binds a KEK key to. It may write this to its log.
  ByteBuffer KekContext(const KekName& name, int64_t window) const;

 private:
  RegistryKeys(Owner owner, crypto::SecretKey secret, Epochs epochs, bool makesShort)
      : owner_(std::move(owner)),
        secret_(std::move(secret)),
        makesShort_(makesShort),
        epochs_(std::move(epochs)),
        epochInUse_(epochs_.rbegin()->first) {}

  ByteBuffer WrapRow(const crypto::SecretKey& key, const Registry::Row& row, bool isShort) const;
  // What is inside of what the epoch key has wrapped. Of a row under a KEK, where it is wrapped still.
  absl::StatusOr<ByteBuffer> UnwrapEpoch(const Registry::Row& row) const;
  absl::Status IsDamaged(const Registry::Row& row) const;

  Owner owner_;
  crypto::SecretKey secret_;
  bool makesShort_;
  Epochs epochs_;  // at least one
  int64_t epochInUse_;
};

}  // namespace kveil::keys
