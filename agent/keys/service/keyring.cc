// Opens the root key and the registry, keeps an eye on both, and erases. keyring_lookup.cc finds and makes keys.
#include "keys/service/keyring.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "crypto/key_wrap.h"
#include "keys/root/root_key_file.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kSecretLabel = "kveil registry 1";
constexpr std::string_view kEpochLabel = "kveil epoch 1";
constexpr std::string_view kRowLabel = "kveil row 1";
constexpr std::string_view kSubjectLabel = "kveil subject 1";

constexpr char kErasedAtPayload[] = "kveil/erased-at";

void AppendBigEndian(uint64_t value, ByteBuffer& out) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(value >> shift));
}

ByteBuffer SecretAad(const RegistryId& id) {
  ByteBuffer aad;
  Append(aad, AsBytes(kSecretLabel));
  Append(aad, id);
  return aad;
}

std::string_view ScopeLabel(Scope scope) {
  switch (scope) {
    case Scope::kCluster:
      return "cluster";
    case Scope::kTopic:
      return "topic";
    case Scope::kUser:
      break;
  }
  return "user";
}

// A root key without a registry is one whose registry was lost or is looked for in the wrong place: going on with an
// empty one would forget every erasure and stop every reader.
absl::Status CheckForLostRegistry(const KeyServiceOptions& options) {
  if (::access(options.registryPath.c_str(), F_OK) == 0 || errno != ENOENT) return absl::OkStatus();
  if (::access(options.rootKeyFile.c_str(), F_OK) != 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("registry ", options.registryPath, " is missing, but its root key ", options.rootKeyFile,
             " is there; restore the registry, or move the root key away to begin anew"));
}

absl::Status ErasedBeforeError(absl::Time time) {
  const std::string text = absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
  absl::Status status = absl::AlreadyExistsError(StrCat("this user was erased before, at ", text));
  status.SetPayload(kErasedAtPayload, absl::Cord(text));
  return status;
}

}  // namespace

std::optional<absl::Time> ErasedBefore(const absl::Status& status) {
  const absl::optional<absl::Cord> text = status.GetPayload(kErasedAtPayload);
  absl::Time time;
  std::string error;
  if (!text.has_value() || !absl::ParseTime(absl::RFC3339_full, std::string(*text), &time, &error)) return std::nullopt;
  return time;
}

absl::StatusOr<std::unique_ptr<Keyring>> Keyring::Open(const KeyServiceOptions& options) {
  std::unique_ptr<Keyring> keyring(new Keyring(options));
  keyring->SetLockDeadline(std::chrono::steady_clock::now() + options.registryTimeout);
  if (absl::Status status = CheckForLostRegistry(options); !status.ok()) return status;
  // The registry first: only beside a new one may a root key be made.
  if (absl::Status status = keyring->OpenRegistry(true); !status.ok()) return status;
  absl::StatusOr<std::optional<SqliteTables::Identity>> identity = keyring->registry_->ReadIdentity();
  if (!identity.ok()) return keyring->Fail(identity.status());
  if (absl::Status status = keyring->LoadRootKey(!identity->has_value()); !status.ok()) return status;
  if (!identity->has_value()) {
    if (absl::Status status = keyring->Initialise(); !status.ok()) return status;
    identity = keyring->registry_->ReadIdentity();
    if (!identity.ok()) return keyring->Fail(identity.status());
  }
  if (absl::Status status = keyring->LoadSecrets(**identity); !status.ok()) return status;
  return keyring;
}

void Keyring::SetLockDeadline(std::chrono::steady_clock::time_point deadline) {
  lockDeadline_ = deadline;
  if (registry_ != nullptr) registry_->SetLockDeadline(deadline);
}

absl::Status Keyring::OpenRegistry(bool create) {
  absl::StatusOr<std::unique_ptr<SqliteTables>> registry =
      create ? SqliteTables::OpenOrCreate(options_.registryPath, lockDeadline_)
             : SqliteTables::OpenExisting(options_.registryPath, lockDeadline_);
  if (!registry.ok()) return Fail(registry.status());
  registry_ = *std::move(registry);
  broken_ = false;
  absl::StatusOr<int64_t> last = registry_->ReadLastErasure();
  if (!last.ok()) return Fail(last.status());
  lastErasure_ = *last;
  ++openings_;
  return absl::OkStatus();
}

absl::Status Keyring::LoadRootKey(bool registryIsNew) {
  absl::StatusOr<crypto::SecretKey> key = ReadRootKeyFile(options_.rootKeyFile);
  if (absl::IsNotFound(key.status())) {
    if (!registryIsNew) {
      return absl::FailedPreconditionError(StrCat("root key file ", options_.rootKeyFile, " is missing, but registry ",
                                                  options_.registryPath,
                                                  " holds keys that only it can unwrap; restore it from a backup"));
    }
    key = CreateRootKeyFile(options_.rootKeyFile);
  }
  if (!key.ok()) return key.status();
  rootKey_ = *std::move(key);
  return absl::OkStatus();
}

absl::Status Keyring::Initialise() {
  absl::StatusOr<SqliteTables::Transaction> transaction = registry_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::StatusOr<std::optional<SqliteTables::Identity>> other = registry_->ReadIdentity();
  if (!other.ok()) return Fail(other.status());
  if (other->has_value()) return absl::OkStatus();  // another process was quicker

  SqliteTables::Identity identity;
  crypto::FillRandom(absl::MakeSpan(identity.id));
  identity.wrappedSecret = crypto::WrapKey(rootKey_, crypto::SecretKey::Random(), SecretAad(identity.id));
  identity_ = identity;
  const absl::Time now = options_.wallNow();
  if (absl::Status status = registry_->WriteIdentity(identity, now); !status.ok()) return Fail(status);
  const SqliteTables::Epoch first{1, crypto::WrapKey(rootKey_, crypto::SecretKey::Random(), EpochAad(1))};
  if (absl::Status status = registry_->AddEpoch(first, now); !status.ok()) return Fail(status);
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  log::Info("keys.registry.made", {{"file", options_.registryPath}});
  return absl::OkStatus();
}

absl::Status Keyring::LoadSecrets(const SqliteTables::Identity& identity) {
  absl::StatusOr<crypto::SecretKey> secret =
      crypto::UnwrapKey(rootKey_, identity.wrappedSecret, SecretAad(identity.id));
  if (!secret.ok()) {
    return absl::FailedPreconditionError(StrCat("root key file ", options_.rootKeyFile, " does not fit registry ",
                                                options_.registryPath,
                                                ": it is another registry's key, or the registry is damaged"));
  }
  secret_ = *std::move(secret);
  identity_ = identity;
  return LoadEpochs();
}

absl::Status Keyring::LoadEpochs() {
  absl::StatusOr<std::map<int64_t, crypto::SecretKey>> epochs = UnwrapEpochs();
  if (!epochs.ok()) return Fail(epochs.status());
  epochs_ = *std::move(epochs);
  return absl::OkStatus();
}

// At least one.
absl::StatusOr<std::map<int64_t, crypto::SecretKey>> Keyring::UnwrapEpochs() {
  absl::StatusOr<std::vector<SqliteTables::Epoch>> rows = registry_->ReadEpochs();
  if (!rows.ok()) return rows.status();
  std::map<int64_t, crypto::SecretKey> epochs;
  for (const SqliteTables::Epoch& row : *rows) {
    absl::StatusOr<crypto::SecretKey> key = crypto::UnwrapKey(rootKey_, row.wrappedKey, EpochAad(row.number));
    if (!key.ok()) {
      return absl::DataLossError(StrCat("registry ", options_.registryPath, " is corrupt: the key of epoch ",
                                        row.number, " is damaged; restore it from a backup"));
    }
    epochs[row.number] = *std::move(key);
  }
  if (epochs.empty()) {
    return absl::DataLossError(StrCat("registry ", options_.registryPath, " is corrupt: it has no epoch key"));
  }
  return epochs;
}

absl::Status Keyring::Ready() {
  if (registry_ != nullptr && !broken_ && registry_->FileIsInPlace()) return absl::OkStatus();
  registry_.reset();
  if (absl::Status status = OpenRegistry(false); !status.ok()) return status;
  absl::StatusOr<std::optional<SqliteTables::Identity>> identity = registry_->ReadIdentity();
  if (!identity.ok()) return Fail(identity.status());
  if (!identity->has_value() || (*identity)->id != identity_->id) {
    return Fail(absl::UnavailableError(
        StrCat("registry ", options_.registryPath, " was replaced by another registry; restore it, or restart kveil")));
  }
  return LoadEpochs();
}

absl::Status Keyring::Fail(const absl::Status& status) {
  // A lock and a full disk pass by themselves. Anything else may be cured by a new connection.
  // Only marked here: a transaction may still stand on this one.
  if (!absl::IsAborted(status) && !absl::IsResourceExhausted(status)) broken_ = true;
  if (absl::IsFailedPrecondition(status)) return status;
  return absl::UnavailableError(status.message());
}

absl::StatusOr<EraseResult> Keyring::Erase(std::optional<std::string_view> keyspace, std::string_view user) {
  if (absl::Status status = Ready(); !status.ok()) return status;
  absl::StatusOr<SqliteTables::Transaction> transaction = registry_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  std::vector<std::string> keyspaces;
  if (keyspace.has_value()) {
    keyspaces.emplace_back(*keyspace);
  } else {
    absl::StatusOr<std::vector<std::string>> all = registry_->ReadKeyspaces();
    if (!all.ok()) return Fail(all.status());
    keyspaces = *std::move(all);
  }
  EraseResult result;
  result.erasedAt = absl::FromUnixMillis(absl::ToUnixMillis(options_.wallNow()));
  std::optional<absl::Time> before;
  for (std::string& candidate : keyspaces) {
    const Subject subject = SubjectOf({Scope::kUser, candidate, user});
    absl::StatusOr<std::optional<absl::Time>> erased = registry_->FindErasure(subject);
    if (!erased.ok()) return Fail(erased.status());
    if (erased->has_value()) {
      before = std::min(before.value_or(absl::InfiniteFuture()), **erased);
      continue;
    }
    absl::StatusOr<size_t> count = registry_->Erase(subject, candidate, result.erasedAt);
    if (!count.ok()) return Fail(count.status());
    if (*count == 0) continue;
    result.keyCount += *count;
    result.keyspaces.push_back(std::move(candidate));
  }
  if (result.keyCount == 0 && before.has_value()) return ErasedBeforeError(*before);
  if (result.keyCount == 0) return absl::NotFoundError("this user has no key");
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return result;
}

absl::StatusOr<std::vector<crypto::KeyId>> Keyring::PollErasures() {
  if (absl::Status status = Ready(); !status.ok()) return status;
  absl::StatusOr<SqliteTables::Erasures> erasures = registry_->ReadErasuresAfter(lastErasure_);
  if (!erasures.ok()) return Fail(erasures.status());
  lastErasure_ = erasures->last;
  return std::move(erasures->ids);
}

absl::Status Keyring::TruncateLog() {
  if (absl::Status status = Ready(); !status.ok()) return status;
  absl::Status status = registry_->TruncateLog();
  return status.ok() ? status : Fail(status);
}

absl::Status Keyring::ProbeWrite() {
  if (absl::Status status = Ready(); !status.ok()) return status;
  absl::Status status = registry_->ProbeWrite(options_.wallNow());
  return status.ok() ? status : Fail(status);
}

absl::Status Keyring::CheckRootKeyFile() {
  absl::StatusOr<crypto::SecretKey> key = ReadRootKeyFile(options_.rootKeyFile);
  if (!key.ok()) {
    rootKeyStatus_ = absl::UnavailableError(
        StrCat(std::string(key.status().message()), "; nothing new is sealed, as a restarted agent could not open it"));
  } else if (!key->Equals(rootKey_)) {
    rootKeyStatus_ = absl::UnavailableError(
        StrCat("root key file ", options_.rootKeyFile, " holds another key than the one in use; restore it"));
  } else {
    rootKeyStatus_ = absl::OkStatus();
  }
  return rootKeyStatus_;
}

// With the key in memory, which is the file's when CheckRootKeyFile says so. The epoch keys in use stay as they are:
// what can be opened by them is opened.
absl::Status Keyring::TryUnwrap() {
  absl::Status status = CheckRootKeyFile();
  if (status.ok()) status = Ready();
  if (status.ok()) status = UnwrapEpochs().status();
  return status.ok() ? status : absl::UnavailableError(status.message());
}

void Keyring::DropExpired() {
  const SteadyTime now = options_.steadyNow();
  absl::erase_if(throwAways_, [now](const auto& entry) { return entry.second.expires <= now; });
}

Subject Keyring::SubjectOf(const ScopeName& name) const {
  ByteBuffer prefix;
  Append(prefix, AsBytes(kSubjectLabel));
  prefix.push_back(static_cast<uint8_t>(name.scope));
  AppendBigEndian(name.keyspace.size(), prefix);
  const Bytes parts[] = {prefix, AsBytes(name.keyspace), AsBytes(name.subject)};
  Subject subject;
  crypto::HmacSha256(secret_, parts, subject.data());
  return subject;
}

int64_t Keyring::WindowOf(Scope scope) const {
  if (scope == Scope::kUser) return 0;
  return absl::ToUnixSeconds(options_.wallNow()) / std::max<int64_t>(1, options_.sharedKeyWindow.count());
}

ByteBuffer Keyring::RowAad(const SqliteTables::Row& row) const {
  ByteBuffer aad;
  Append(aad, AsBytes(kRowLabel));
  Append(aad, row.id.bytes);
  aad.push_back(static_cast<uint8_t>(row.scope));
  Append(aad, row.subject);
  AppendBigEndian(static_cast<uint64_t>(row.window), aad);
  AppendBigEndian(static_cast<uint64_t>(row.epoch), aad);
  return aad;
}

ByteBuffer Keyring::EpochAad(int64_t epoch) const {
  ByteBuffer aad;
  Append(aad, AsBytes(kEpochLabel));
  Append(aad, identity_->id);
  AppendBigEndian(static_cast<uint64_t>(epoch), aad);
  return aad;
}

absl::StatusOr<crypto::SecretKey> Keyring::Unwrap(const SqliteTables::Row& row) {
  auto epoch = epochs_.find(row.epoch);
  absl::StatusOr<crypto::SecretKey> key = absl::DataLossError("");
  if (epoch != epochs_.end()) key = crypto::UnwrapKey(epoch->second, row.wrappedKey, RowAad(row));
  // The id commits to the key: what a record names is what opens it.
  if (key.ok() && crypto::EqualInConstantTime(crypto::ComputeKeyId(*key).bytes, row.id.bytes)) return key;
  return absl::DataLossError(StrCat("registry ", options_.registryPath, " is corrupt: the key of a ",
                                    ScopeLabel(row.scope), " is damaged; its records wait. Restore it from a backup"));
}

// Erasing needs room in the write-ahead log, so new users must not take the last of it.
absl::Status Keyring::CheckRoomOnDisk() const {
  constexpr uint64_t kKeepFree = 64 << 20;
  uint64_t free = 0;
  if (options_.freeBytes) {
    free = options_.freeBytes();
  } else {
    struct statvfs info;
    if (statvfs(options_.registryPath.c_str(), &info) != 0) return absl::OkStatus();
    free = uint64_t{info.f_bavail} * info.f_frsize;
    // A file system of its own may be small.
    const uint64_t all = uint64_t{info.f_blocks} * info.f_frsize;
    if (free >= all / 20) return absl::OkStatus();
  }
  if (free >= kKeepFree) return absl::OkStatus();
  return absl::UnavailableError(StrCat("registry ", options_.registryPath, ": the disk is nearly full (", free >> 20,
                                       " MiB left); records of new users wait, so that users can still be erased"));
}

}  // namespace kveil::keys
