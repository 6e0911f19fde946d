// Every wrapped key is bound to what it is for by the additional data, so that none can be put in another's place.
#include "keys/service/registry_keys.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "crypto/key_wrap.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kSecretLabel = "kveil registry 1";
constexpr std::string_view kEpochLabel = "kveil epoch 1";
constexpr std::string_view kRowLabel = "kveil row 1";
constexpr std::string_view kShortRowLabel = "kveil row 2";
constexpr std::string_view kShortRowsLabel = "kveil rows 2";
constexpr std::string_view kKekRowLabel = "kveil row under a KEK 1";
constexpr std::string_view kKekLabel = "kveil KEK key 1";
constexpr std::string_view kSubjectLabel = "kveil subject 1";

void AppendBigEndian(uint64_t value, ByteBuffer& out) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(value >> shift));
}

ByteBuffer SecretContext(const RegistryId& id) {
  ByteBuffer context;
  Append(context, AsBytes(kSecretLabel));
  Append(context, id);
  return context;
}

ByteBuffer EpochContext(const RegistryId& id, int64_t epoch) {
  ByteBuffer context;
  Append(context, AsBytes(kEpochLabel));
  Append(context, id);
  AppendBigEndian(static_cast<uint64_t>(epoch), context);
  return context;
}

ByteBuffer RowAad(const Registry::Row& row, std::string_view label = kRowLabel) {
  ByteBuffer aad;
  aad.reserve(128);
  Append(aad, AsBytes(label));
  Append(aad, row.id.bytes);
  aad.push_back(static_cast<uint8_t>(row.scope));
  Append(aad, row.name.subject);
  AppendBigEndian(static_cast<uint64_t>(row.name.window), aad);
  AppendBigEndian(static_cast<uint64_t>(row.epoch), aad);
  return aad;
}

// Without the epoch: what is inside goes through the turns as it is.
ByteBuffer KekRowAad(const Registry::Row& row, const crypto::KeyId& kek) {
  ByteBuffer aad;
  Append(aad, AsBytes(kKekRowLabel));
  Append(aad, kek.bytes);
  Append(aad, row.id.bytes);
  aad.push_back(static_cast<uint8_t>(row.scope));
  Append(aad, row.name.subject);
  AppendBigEndian(static_cast<uint64_t>(row.name.window), aad);
  return aad;
}

// Whether the row's key is wrapped in 32 bytes.
bool IsShort(const Registry::Row& row) { return row.wrappedKey.size() == crypto::SecretKey::kSize; }

// The KEK key's id, and what it has wrapped.
constexpr size_t kUnderKekSize = sizeof(crypto::KeyId) + crypto::kWrappedKeySize;

absl::Status IsOldCopy(const std::string& registry, const absl::Status& why) {
  return absl::FailedPreconditionError(
      StrCat(registry, " is an old copy, from before its epochs turned: ", ToStd(why.message()),
             ". This root key file opens nothing in this copy; put the registry back that was in use last (if a "
             "standby took over that lacks the end of the turn, one that has it), or a backup of both that belong "
             "together"));
}

}  // namespace

absl::StatusOr<RegistryKeys> RegistryKeys::MakeFirst(RootKey& root, Registry& registry, absl::Time now,
                                                     RootKey::Deadline deadline) {
  constexpr int64_t kFirstEpoch = 1;
  Registry::Identity identity;
  crypto::FillRandom(absl::MakeSpan(identity.id));
  absl::StatusOr<RootKey::DataKey> secret = root.GenerateDataKey(SecretContext(identity.id), deadline);
  if (!secret.ok()) return secret.status();
  absl::StatusOr<RootKey::DataKey> epoch = root.GenerateDataKey(EpochContext(identity.id, kFirstEpoch), deadline);
  if (!epoch.ok()) return epoch.status();
  identity.wrappedSecret = std::move(secret->wrapped);
  RETURN_IF_ERROR(registry.Initialise(identity, {kFirstEpoch, std::move(epoch->wrapped)}, now));
  ASSIGN_OR_RETURN(const std::optional<Registry::Identity> first, registry.ReadIdentity());
  if (!first.has_value()) return absl::DataLossError(StrCat(registry.name(), " has no identity after it was made"));
  return Load(root, registry, *first, deadline);
}

absl::StatusOr<RegistryKeys> RegistryKeys::Load(RootKey& root, Registry& registry, const Registry::Identity& identity,
                                                RootKey::Deadline deadline) {
  const ByteBuffer context = SecretContext(identity.id);
  const RootKey::WrappedKey wrapped[] = {{identity.wrappedSecret, context}};
  absl::StatusOr<crypto::SecretKey> secret = std::move(root.Unwrap(wrapped, deadline).front());
  if (absl::IsDataLoss(secret.status())) {
    return absl::FailedPreconditionError(StrCat(root.name(), " does not fit ", registry.name(),
                                                ": it is another registry's key, or the registry is damaged"));
  }
  if (absl::IsNotFound(secret.status())) return IsOldCopy(registry.name(), secret.status());
  if (!secret.ok()) return secret.status();
  const auto* const id = reinterpret_cast<const char*>(identity.id.data());
  root.NoteRegistry(absl::BytesToHexString({id, identity.id.size()}));
  ASSIGN_OR_RETURN(const std::vector<Registry::Epoch> rows, ReadEpochs(registry));
  Owner owner{identity.id, registry.name()};
  ASSIGN_OR_RETURN(Epochs epochs, UnwrapEpochs(root, owner, rows, deadline));
  RegistryKeys keys(std::move(owner), *std::move(secret), std::move(epochs), !registry.isShared());
  keys.Follow(rows);
  return keys;
}

absl::StatusOr<std::vector<Registry::Epoch>> RegistryKeys::ReadEpochs(Registry& registry) {
  absl::StatusOr<std::vector<Registry::Epoch>> rows = registry.ReadEpochs();
  if (rows.ok() && rows->empty()) {
    return absl::DataLossError(StrCat(registry.name(), " is corrupt: it has no epoch key"));
  }
  return rows;
}

absl::StatusOr<RegistryKeys::Epochs> RegistryKeys::UnwrapEpochs(RootKey& root, const Owner& owner,
                                                                const std::vector<Registry::Epoch>& rows,
                                                                RootKey::Deadline deadline) {
  std::vector<ByteBuffer> contexts;
  for (const Registry::Epoch& row : rows) contexts.push_back(EpochContext(owner.id, row.number));
  std::vector<RootKey::WrappedKey> wrapped;
  for (size_t i = 0; i < rows.size(); ++i) wrapped.push_back({rows[i].wrappedKey, contexts[i]});
  std::vector<absl::StatusOr<crypto::SecretKey>> keys = root.Unwrap(wrapped, deadline);
  Epochs epochs;
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t number = rows[i].number;
    if (absl::IsDataLoss(keys[i].status())) {
      return absl::DataLossError(
          StrCat(owner.name, " is corrupt: the key of epoch ", number, " is damaged; restore it from a backup"));
    }
    if (absl::IsNotFound(keys[i].status())) return IsOldCopy(owner.name, keys[i].status());
    if (!keys[i].ok()) return keys[i].status();
    EpochKey& epoch = epochs[number];
    epoch.wrapped = rows[i].wrappedKey;
    epoch.key = *std::move(keys[i]);
    const Bytes label[] = {AsBytes(kShortRowsLabel)};
    crypto::HmacSha256(epoch.key, label, epoch.shortRows.writable().data());
  }
  return epochs;
}

bool RegistryKeys::Knows(const std::vector<Registry::Epoch>& rows) const {
  return std::all_of(rows.begin(), rows.end(), [this](const Registry::Epoch& row) {
    const auto known = epochs_.find(row.number);
    return known != epochs_.end() && known->second.wrapped == row.wrappedKey;
  });
}

void RegistryKeys::Add(Epochs epochs) {
  for (auto& [number, key] : epochs) epochs_[number] = std::move(key);
}

void RegistryKeys::Follow(const std::vector<Registry::Epoch>& rows) {
  for (const Registry::Epoch& row : rows) {
    if (row.isUsed) epochInUse_ = row.number;
  }
}

void RegistryKeys::DropOthers(const std::vector<Registry::Epoch>& rows) {
  std::erase_if(epochs_, [&rows](const auto& epoch) {
    return std::none_of(rows.begin(), rows.end(), [&](const auto& row) { return row.number == epoch.first; });
  });
}

RegistryKeys::Wrapped RegistryKeys::WrappedOf(const Registry::Identity& identity, const Registry::Epoch& epoch) {
  return {identity.wrappedSecret, SecretContext(identity.id), epoch.wrappedKey,
          EpochContext(identity.id, epoch.number)};
}

std::vector<RegistryKeys::OfRoot> RegistryKeys::AllOfRoot(const Registry::Identity& identity,
                                                          const std::vector<Registry::Epoch>& epochs) {
  std::vector<OfRoot> all = {{0, identity.wrappedSecret, SecretContext(identity.id)}};
  for (const Registry::Epoch& epoch : epochs) {
    all.push_back({epoch.number, epoch.wrappedKey, EpochContext(identity.id, epoch.number)});
  }
  return all;
}

bool RegistryKeys::IsKeyOf(int64_t epoch, const crypto::SecretKey& key) const {
  if (epoch == 0) return key.Equals(secret_);
  const auto known = epochs_.find(epoch);
  return known != epochs_.end() && key.Equals(known->second.key);
}

absl::Status RegistryKeys::CheckSecret(RootKey& root, Bytes wrapped, RootKey::Deadline deadline) const {
  const ByteBuffer context = SecretContext(owner_.id);
  const RootKey::WrappedKey keys[] = {{wrapped, context}};
  const absl::StatusOr<crypto::SecretKey> secret = std::move(root.Unwrap(keys, deadline).front());
  if (secret.ok() && secret->Equals(secret_)) return absl::OkStatus();
  if (!secret.ok()) return secret.status();
  return absl::DataLossError(StrCat(root.name(), " has wrapped another secret than that of ", owner_.name));
}

Subject RegistryKeys::SubjectOf(const ScopeName& name) const {
  ByteBuffer prefix;
  Append(prefix, AsBytes(kSubjectLabel));
  prefix.push_back(static_cast<uint8_t>(name.scope));
  AppendBigEndian(name.keyspace.size(), prefix);
  const Bytes parts[] = {prefix, AsBytes(name.keyspace), AsBytes(name.subject)};
  Subject subject;
  crypto::HmacSha256(secret_, parts, subject.data());
  return subject;
}

RegistryKeys::NewKey RegistryKeys::MakeKey(Scope scope, const Registry::RowName& name, const KekKey* kek) const {
  NewKey made;
  made.key = crypto::SecretKey::Random();
  made.row = {crypto::ComputeKeyId(made.key), scope, name, epochInUse_, false, {}, {}};
  const crypto::SecretKey& epoch = epochs_.at(epochInUse_).key;
  if (kek == nullptr) {
    made.row.wrappedKey = WrapRow(made.key, made.row, makesShort_);
    return made;
  }
  ByteBuffer inside;
  Append(inside, kek->id.bytes);
  Append(inside, crypto::WrapKey(*kek->key, made.key, KekRowAad(made.row, kek->id)));
  made.row.wrappedKey = crypto::WrapBytes(epoch, inside, RowAad(made.row));
  return made;
}

ByteBuffer RegistryKeys::WrapRow(const crypto::SecretKey& key, const Registry::Row& row, bool isShort) const {
  const EpochKey& epoch = epochs_.at(row.epoch);
  return isShort ? crypto::WrapKnownKey(epoch.shortRows, key, RowAad(row, kShortRowLabel))
                 : crypto::WrapKey(epoch.key, key, RowAad(row));
}

absl::StatusOr<ByteBuffer> RegistryKeys::UnwrapEpoch(const Registry::Row& row) const {
  const auto epoch = epochs_.find(row.epoch);
  if (epoch == epochs_.end()) return IsDamaged(row);
  absl::StatusOr<ByteBuffer> inside = crypto::UnwrapBytes(epoch->second.key, row.wrappedKey, RowAad(row));
  return inside.ok() ? std::move(inside) : IsDamaged(row);
}

absl::StatusOr<Registry::Row> RegistryKeys::Rewrap(const Registry::Row& row) const {
  Registry::Row rewrapped{row.id, row.scope, row.name, epochInUse_, false, {}, {}};
  const crypto::SecretKey& epoch = epochs_.at(epochInUse_).key;
  if (!IsUnderKek(row)) {
    ASSIGN_OR_RETURN(const crypto::SecretKey key, Unwrap(row));
    rewrapped.wrappedKey = WrapRow(key, rewrapped, IsShort(row));
    return rewrapped;
  }
  ASSIGN_OR_RETURN(const ByteBuffer inside, UnwrapEpoch(row));  // wrapped still
  rewrapped.wrappedKey = crypto::WrapBytes(epoch, inside, RowAad(rewrapped));
  return rewrapped;
}

absl::Status RegistryKeys::IsDamaged(const Registry::Row& row) const {
  return absl::DataLossError(StrCat(owner_.name, " is corrupt: the key of a ", NameOf(row.scope),
                                    " is damaged; its records wait. Restore it from a backup"));
}

absl::StatusOr<crypto::SecretKey> RegistryKeys::Unwrap(const Registry::Row& row) const {
  const auto epoch = epochs_.find(row.epoch);
  absl::StatusOr<crypto::SecretKey> key = absl::DataLossError("");
  if (epoch != epochs_.end()) {
    key = IsShort(row) ? crypto::UnwrapKnownKey(epoch->second.shortRows, row.wrappedKey, RowAad(row, kShortRowLabel))
                       : crypto::UnwrapKey(epoch->second.key, row.wrappedKey, RowAad(row));
  }
  // The id commits to the key: what a record names is what opens it.
  if (key.ok() && crypto::EqualInConstantTime(crypto::ComputeKeyId(*key).bytes, row.id.bytes)) return key;
  return IsDamaged(row);
}

bool RegistryKeys::IsUnderKek(const Registry::Row& row) {
  return row.wrappedKey.size() == kUnderKekSize + crypto::kWrapOverhead;
}

absl::StatusOr<RegistryKeys::UnderKek> RegistryKeys::OpenUnderKek(const Registry::Row& row) const {
  ASSIGN_OR_RETURN(const ByteBuffer inside, UnwrapEpoch(row));
  UnderKek under;
  const auto idEnd = inside.begin() + sizeof(under.kek.bytes);
  std::copy(inside.begin(), idEnd, under.kek.bytes.begin());
  under.wrapped.assign(idEnd, inside.end());
  return under;
}

absl::StatusOr<crypto::SecretKey> RegistryKeys::Unwrap(const Registry::Row& row, const UnderKek& under,
                                                       const crypto::SecretKey& kek) const {
  absl::StatusOr<crypto::SecretKey> key = crypto::UnwrapKey(kek, under.wrapped, KekRowAad(row, under.kek));
  if (key.ok() && crypto::EqualInConstantTime(crypto::ComputeKeyId(*key).bytes, row.id.bytes)) return key;
  return IsDamaged(row);
}

ByteBuffer RegistryKeys::KekContext(const KekName& name, int64_t window) const {
  ByteBuffer context;
  Append(context, AsBytes(kKekLabel));
  Append(context, owner_.id);
  AppendBigEndian(static_cast<uint64_t>(window), context);
  AppendBigEndian(name.provider.size(), context);
  Append(context, AsBytes(name.provider));
  Append(context, AsBytes(name.key));
  return context;
}

}  // namespace kveil::keys
