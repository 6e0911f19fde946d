// What is wrapped anew when a root key or a KEK was rotated: reading it, and putting it back. Each step takes effect as
// a whole and only where the registry still has what was read, so agents that rotate at once stand in nobody's way, and
// one that ends in the middle leaves what it found.
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "keys/service/keyring.h"

namespace kveil::keys {

absl::StatusOr<std::vector<RegistryKeys::OfRoot>> Keyring::ReadOfRoot() {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(const std::optional<Registry::Identity> identity, registry_->ReadIdentity());
  if (!identity.has_value()) return absl::UnavailableError(StrCat(registry_->name(), " has no identity"));
  ASSIGN_OR_RETURN(const std::vector<Registry::Epoch> epochs, ReadEpochs());
  return RegistryKeys::AllOfRoot(*identity, epochs);
}

absl::StatusOr<bool> Keyring::ReplaceOfRoot(absl::Span<const RegistryKeys::OfRoot> before,
                                            absl::Span<const Rewrapped> after) {
  RETURN_IF_ERROR(Ready());
  std::vector<Registry::Rewrapped> rewrapped;
  for (size_t i = 0; i < before.size(); ++i) {
    const int64_t epoch = before[i].epoch;
    if (epoch != 0 && !keys_.HasEpoch(epoch)) {
      return absl::UnavailableError("not all epoch keys are unwrapped yet; ask again");
    }
    if (!keys_.IsKeyOf(epoch, after[i].key)) {
      return absl::DataLossError(StrCat(root_->name(), " has wrapped another key than that of ", registry_->name()));
    }
    rewrapped.push_back({epoch, before[i].wrapped, after[i].wrapped});
  }
  return registry_->ReplaceWrapped(rewrapped);
}

absl::StatusOr<std::vector<Keyring::OfKek>> Keyring::ListKekKeys(std::string_view provider, std::string_view name,
                                                                 const crypto::KeyId& after, size_t most) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(std::vector<Registry::KekKey> keys, registry_->ListKekKeys(provider, name, after, most));
  std::vector<OfKek> listed;
  for (Registry::KekKey& key : keys) {
    ByteBuffer context = keys_.KekContext(key.name, key.window);
    listed.push_back({std::move(key), std::move(context)});
  }
  return listed;
}

absl::StatusOr<bool> Keyring::ReplaceKekKey(const Registry::KekKey& before, const Rewrapped& after) {
  RETURN_IF_ERROR(Ready());
  if (!crypto::EqualInConstantTime(crypto::ComputeKeyId(after.key).bytes, before.id.bytes)) {
    return absl::DataLossError("the key that it has wrapped is not the one that was wrapped before");
  }
  return registry_->ReplaceKekKey(before, after.wrapped);
}

}  // namespace kveil::keys
