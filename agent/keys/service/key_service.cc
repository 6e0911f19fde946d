// Checks what callers ask, and has the service's thread answer it.
#include "keys/service/key_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/service/keyring.h"
#include "keys/service/service_core.h"
#include "keys/service/service_thread.h"

namespace kveil::keys {
namespace {

absl::Status CheckCount(size_t users) {
  if (users <= kMostUsersOfAnErasure) return absl::OkStatus();
  return absl::InvalidArgumentError(StrCat("at most ", kMostUsersOfAnErasure, " users are erased at once"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeyService>> KeyService::Open(KeyServiceOptions options) {
  if (options.cacheTtl < std::chrono::seconds(1)) return absl::InvalidArgumentError("keys.cacheTtl is at least 1s");
  if (options.newUsersPerSecond < 1) return absl::InvalidArgumentError("keys.newUsersPerSecond is at least 1");
  absl::StatusOr<std::unique_ptr<Keyring>> keyring = Keyring::Open(options);
  if (!keyring.ok()) return keyring.status();
  return std::unique_ptr<KeyService>(
      new KeyService(std::make_unique<ServiceThread>(std::move(options), *std::move(keyring))));
}

KeyService::KeyService(std::unique_ptr<ServiceThread> thread) : thread_(std::move(thread)) {}
KeyService::~KeyService() = default;

absl::StatusOr<EraseResult> KeyService::Erase(std::optional<std::string_view> keyspace, std::string_view user) {
  const std::string users[] = {std::string(user)};
  ASSIGN_OR_RETURN(ErasedUsers erased, EraseUsers(keyspace, users));
  const ErasedUser& one = erased.users.front();
  RETURN_IF_ERROR(StatusOf(one));
  EraseResult result{erased.erasedAt, one.keyCount, {}, erased.filesClean, one.number};
  for (const ErasedUser::Keyspace& keyspace : one.keyspaces) result.keyspaces.push_back(keyspace.name);
  return result;
}

absl::StatusOr<ErasedUsers> KeyService::EraseUsers(std::optional<std::string_view> keyspace,
                                                   absl::Span<const std::string> users) {
  RETURN_IF_ERROR(CheckCount(users.size()));
  const auto erase = [&](Keyring& keyring) { return keyring.EraseUsers(keyspace, users); };
  return thread_->Ask([&](ServiceCore& core) { return core.Erase(users.size(), erase); });
}

absl::StatusOr<ErasedUsers> KeyService::EraseSubjects(std::string_view keyspace, absl::Span<const Subject> subjects) {
  RETURN_IF_ERROR(CheckCount(subjects.size()));
  const auto erase = [&](Keyring& keyring) { return keyring.EraseSubjects(keyspace, subjects); };
  return thread_->Ask([&](ServiceCore& core) { return core.Erase(subjects.size(), erase); });
}

absl::StatusOr<KeyService::SubjectsRead> KeyService::ReadErased(absl::Span<const ToldErasure> told) {
  RETURN_IF_ERROR(CheckCount(told.size()));
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReadErased(told); });
}

absl::StatusOr<ChangedUsers> KeyService::ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid) {
  if (changes.size() > kMostUserChanges) {
    return absl::InvalidArgumentError(StrCat("at most ", kMostUserChanges, " changes are made at once"));
  }
  return thread_->Ask([&](ServiceCore& core) { return core.ChangeUsers(changes, uid); });
}

absl::StatusOr<ReadmittedUser> KeyService::Readmit(std::optional<std::string_view> keyspace, std::string_view user) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.Readmit(keyspace, user); });
}

absl::StatusOr<std::vector<KnownUser>> KeyService::ReadUser(std::optional<std::string_view> keyspace,
                                                            std::string_view user) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReadUser(keyspace, user); });
}

absl::StatusOr<std::vector<std::optional<Subject>>> KeyService::ReadSubjects(absl::Span<const crypto::KeyId> keys) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReadSubjects(keys); });
}

absl::StatusOr<std::vector<NamedSubject>> KeyService::ReadSubjectsOf(std::optional<std::string_view> keyspace,
                                                                     std::string_view user) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReadSubjectsOf(keyspace, user); });
}

absl::StatusOr<Registry::KeyList> KeyService::ListKeys(std::string_view from, size_t most) {
  const size_t bounded = std::clamp<size_t>(most, 1, kMostKeysListed);
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ListKeys(from, bounded); });
}

absl::StatusOr<std::vector<std::string>> KeyService::ReadKeyspaces() {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReadKeyspaces(); });
}

absl::StatusOr<std::vector<Registry::Source>> KeyService::ReadSources() {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReadSources(); });
}

absl::StatusOr<std::optional<LedSource>> KeyService::LeadSource(std::string_view keyspace,
                                                                std::chrono::milliseconds lease) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.LeadSource(keyspace, lease); });
}

absl::Status KeyService::ReleaseSource(std::string_view keyspace, int64_t term) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReleaseSource(keyspace, term); });
}

absl::StatusOr<RereadAsked> KeyService::RereadSource(std::string_view keyspace) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.RereadSource(keyspace); });
}

absl::StatusOr<FollowedRecords> KeyService::FollowSource(const Registry::SourceMove& move, uint64_t opening,
                                                         absl::Span<const ConsentRecord> records, bool mayLeaveOut) {
  if (records.size() > kMostConsentRecords) {
    return absl::InvalidArgumentError(StrCat("at most ", kMostConsentRecords, " records are followed at once"));
  }
  return thread_->Ask([&](ServiceCore& core) { return core.FollowSource(move, opening, records, mayLeaveOut); });
}

absl::StatusOr<KeyService::Epochs> KeyService::ListEpochs(bool withKeys) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.ListEpochs(withKeys); });
}
absl::StatusOr<int64_t> KeyService::TurnEpochs() {
  return thread_->Ask([&](ServiceCore& core) { return core.TurnEpochs(); });
}
absl::StatusOr<KeyService::GivenUp> KeyService::GiveUpKey(const crypto::KeyId& id) {
  return thread_->AskKeyring([&](Keyring& keyring) { return keyring.GiveUpKey(id); });
}
KeyService::EpochNow KeyService::epochNow() const { return thread_->core().epochNow(); }

absl::StatusOr<int64_t> KeyService::ReadLastErasure() {
  return thread_->Ask([&](ServiceCore& core) { return core.ReadLastErasure(); });
}

absl::StatusOr<KeyService::AgentsRead> KeyService::ReadAgents() {
  return thread_->Ask([&](ServiceCore& core) { return core.ReadAgents(); });
}

absl::Status KeyService::health() const { return thread_->core().health(); }
std::vector<SourceState> KeyService::sourceStates() const { return thread_->core().sourceStates(); }

void KeyService::Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
  thread_->Fetch(std::move(misses), workload, std::move(done));
}

void KeyService::TryUnwrap(absl::AnyInvocable<void(absl::Status)> done) {
  thread_->Do([done = std::move(done)](ServiceCore& core) mutable { core.TryUnwrap(std::move(done)); });
}

std::string KeyService::registryId() const {
  const RegistryId& id = thread_->core().self().registry;
  return absl::BytesToHexString({reinterpret_cast<const char*>(id.data()), id.size()});
}

const std::string& KeyService::agentName() const { return thread_->core().self().agent; }

crypto::KeyIdMask KeyService::NewMask() const { return crypto::KeyIdMask(thread_->core().secret()); }

RootKey::Stats KeyService::rootKeyStats() const { return thread_->core().rootKeyStats(); }

std::string KeyService::kekNote() const { return thread_->core().kekNote(); }

std::vector<KeyService::KekStats> KeyService::kekStats() const { return thread_->core().kekStats(); }

const KeyServiceOptions& KeyService::options() const { return thread_->core().options(); }
const Revocations& KeyService::revocations() const { return thread_->core().revocations(); }

}  // namespace kveil::keys
