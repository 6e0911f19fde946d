// Opens the root key and the registry, keeps an eye on both, and erases. keyring_lookup.cc finds and makes keys.
#include "keys/service/keyring.h"

#include "base/text.h"
#include "keys/registry/open_registry.h"
#include "keys/root/open_root_key.h"

namespace kveil::keys {

absl::StatusOr<std::unique_ptr<Keyring>> Keyring::Open(const KeyServiceOptions& options) {
  const RootKey::Deadline deadline = std::chrono::steady_clock::now() + options.registryTimeout;
  // A root key without its registry: going on with an empty one would forget every erasure and stop every reader. Asked
  // for before the registry is opened, as another process that starts makes the registry first.
  const std::optional<std::string> keyOfRegistry = RootKeyOfSomeRegistry(options.root);
  absl::StatusOr<std::unique_ptr<Registry>> registry =
      OpenRegistry(options.registry, /*mustExist=*/keyOfRegistry.has_value(), deadline);
  if (absl::IsNotFound(registry.status())) {
    return absl::FailedPreconditionError(
        StrCat(std::string(registry.status().message()), ", but its ", *keyOfRegistry,
               " is there; restore the registry, or move the root key away to begin anew"));
  }
  if (!registry.ok()) return registry.status();
  absl::StatusOr<std::optional<Registry::Identity>> identity = (*registry)->ReadIdentity();
  if (!identity.ok()) return identity.status();
  // Only beside a new registry may a root key be made.
  const bool isNew = !identity->has_value();
  absl::StatusOr<std::unique_ptr<RootKey>> root = OpenRootKey(options.root, /*mayCreate=*/isNew, deadline);
  if (absl::IsNotFound(root.status())) {
    return absl::FailedPreconditionError(StrCat(std::string(root.status().message()), ", but ", (*registry)->name(),
                                                " holds keys that only it can unwrap; restore it from a backup"));
  }
  if (!root.ok()) return root.status();
  if (isNew) {
    const absl::Status made = RegistryKeys::MakeFirst(**root, **registry, options.wallNow(), deadline);
    if (!made.ok()) return made;
    identity = (*registry)->ReadIdentity();
    if (!identity.ok()) return identity.status();
  }
  absl::StatusOr<RegistryKeys> keys = RegistryKeys::Load(**root, **registry, **identity, deadline);
  if (absl::IsDataLoss(keys.status())) return absl::UnavailableError(keys.status().message());
  if (!keys.ok()) return keys.status();
  return std::unique_ptr<Keyring>(new Keyring(options, *std::move(registry), *std::move(root), *std::move(keys)));
}

Keyring::Keyring(const KeyServiceOptions& options, std::unique_ptr<Registry> registry, std::unique_ptr<RootKey> root,
                 RegistryKeys keys)
    : options_(options),
      registry_(std::move(registry)),
      root_(std::move(root)),
      keys_(std::move(keys)),
      openingOfKeys_(registry_->openings()),
      newUsers_(options.newUsersPerSecond),
      throwAways_(options.cacheTtl) {}

void Keyring::SetDeadline(std::chrono::steady_clock::time_point deadline) {
  deadline_ = deadline;
  registry_->SetDeadline(deadline);
}

absl::Status Keyring::Ready() {
  if (absl::Status status = registry_->EnsureOpen(); !status.ok()) return status;
  if (registry_->openings() == openingOfKeys_) return absl::OkStatus();
  if (absl::Status status = keys_.ReloadEpochs(*root_, *registry_, deadline_); !status.ok()) {
    if (absl::IsDataLoss(status)) registry_->Reopen();
    return absl::UnavailableError(status.message());
  }
  openingOfKeys_ = registry_->openings();
  return absl::OkStatus();
}

void Keyring::Reopen() {
  registry_->Reopen();
  hasUnreadableRows_ = false;
}

// Destroying keys needs none: no trouble with the root key or the epoch keys stands in its way.
absl::StatusOr<EraseResult> Keyring::Erase(std::optional<std::string_view> keyspace, std::string_view user) {
  if (absl::Status status = registry_->EnsureOpen(); !status.ok()) return status;
  EraseResult result;
  result.erasedAt = absl::FromUnixMillis(absl::ToUnixMillis(options_.wallNow()));
  const auto subjectIn = [&](std::string_view candidate) { return keys_.SubjectOf({Scope::kUser, candidate, user}); };
  absl::StatusOr<Registry::Erased> erased = registry_->EraseUser(keyspace, subjectIn, result.erasedAt);
  if (!erased.ok()) return erased.status();
  if (erased->keyCount == 0) {
    return erased->erasedBefore.has_value() ? ErasedBeforeError(*erased->erasedBefore)
                                            : absl::NotFoundError("this user has no key");
  }
  result.keyCount = erased->keyCount;
  result.keyspaces = std::move(erased->keyspaces);
  return result;
}

absl::StatusOr<std::vector<crypto::KeyId>> Keyring::PollErasures() {
  if (absl::Status status = Ready(); !status.ok()) return status;
  return registry_->PollErasures();
}

absl::Status Keyring::PurgeErased() {
  if (absl::Status status = registry_->EnsureOpen(); !status.ok()) return status;
  return registry_->PurgeErased();
}

absl::Status Keyring::CheckWritable() {
  if (absl::Status status = Ready(); !status.ok()) return status;
  return registry_->CheckWritable(options_.wallNow());
}

absl::Status Keyring::CheckRootKey() {
  const absl::Status status = root_->Check(deadline_);
  rootKeyStatus_ =
      status.ok() ? status
                  : absl::UnavailableError(StrCat(std::string(status.message()),
                                                  "; nothing new is sealed, as a restarted agent could not open it"));
  return rootKeyStatus_;
}

// With the root key in use, which is the one a restarted agent would get when CheckRootKey says so. The epoch keys in
// use stay as they are: what can be opened by them is opened.
absl::Status Keyring::TryUnwrap() {
  absl::Status status = CheckRootKey();
  if (status.ok()) status = Ready();
  if (status.ok()) status = keys_.TryEpochs(*root_, *registry_, deadline_);
  return status.ok() ? status : absl::UnavailableError(status.message());
}

}  // namespace kveil::keys
