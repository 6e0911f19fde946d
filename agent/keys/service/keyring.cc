// Opens the root key and the registry, keeps an eye on both, and erases. keyring_lookup.cc finds and makes keys,
// keyring_users.cc changes what is known of users, keyring_epochs.cc follows the epochs.
#include "keys/service/keyring.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/open_registry.h"
#include "keys/root/open_root_key.h"

namespace kveil::keys {
namespace {

using Clock = std::chrono::steady_clock;

// How long the first calls of a remote root key may take.
constexpr std::chrono::seconds kFirstCalls{15};
constexpr std::chrono::seconds kBetweenAttempts{1};
// How often an agent notes that it lives. When it could not for some time, it tries before it takes keys.
constexpr std::chrono::seconds kNoteInterval{1};
constexpr std::chrono::seconds kNoteIsLate{3};

// A root key that is out of reach is waited for: it may come up together with this machine. Whatever else is wrong with
// it needs the operator. For a token's PIN he is waited for without end: an agent that ended would be started again,
// and try the PIN again, until the token is locked.
absl::StatusOr<std::unique_ptr<RootKey>> WaitForRootKey(const KeyServiceOptions& options, bool mayCreate) {
  Clock::time_point giveUp = Clock::now() + options.rootKeyPatience;
  absl::Status logged;
  for (;;) {
    absl::StatusOr<std::unique_ptr<RootKey>> root = OpenRootKey(options.root, mayCreate, Clock::now() + kFirstCalls);
    const bool isAboutPin =
        options.waitsForPin && options.root.pkcs11.has_value() && absl::IsPermissionDenied(root.status());
    if (!absl::IsUnavailable(root.status()) && !isAboutPin) return root;
    // Whoever puts the PIN right may take the token away meanwhile.
    if (isAboutPin) {
      giveUp = Clock::now() + options.rootKeyPatience;
    } else if (Clock::now() + kBetweenAttempts >= giveUp) {
      return absl::UnavailableError(StrCat(ToStd(root.status().message()), " (waited for it for ",
                                           options.rootKeyPatience.count() / 1000, " s)"));
    }
    if (root.status() != logged) log::Warning("keys.rootKey.waiting", {{"error", root.status()}});
    logged = root.status();
    const Clock::time_point next = Clock::now() + kBetweenAttempts;
    while (Clock::now() < next) {
      if (!options.mayWait(root.status()))
        return absl::CancelledError("told to end while the root key was out of reach");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
}

// Where the agent runs: host name and process id.
std::string AgentName() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  return StrCat(host.data(), ":", getpid());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Keyring>> Keyring::Open(const KeyServiceOptions& options) {
  const Registry::Deadline deadline = options.timerNow() + options.registryTimeout;
  // A root key without its registry: going on with an empty one would forget every erasure and stop every reader. Asked
  // for before the registry is opened, as another process that starts makes the registry first.
  const std::optional<std::string> keyOfRegistry = RootKeyOfSomeRegistry(options.root);
  RegistryOptions registryOptions = options.registry;
  registryOptions.mayWait = options.mayWait;
  absl::StatusOr<std::unique_ptr<Registry>> registry =
      OpenRegistry(registryOptions, /*mustExist=*/keyOfRegistry.has_value(), deadline);
  if (absl::IsNotFound(registry.status())) {
    return absl::FailedPreconditionError(
        StrCat(std::string(registry.status().message()), ", but its ", *keyOfRegistry,
               " is there; restore the registry, or if there never was one, make it by `kveil keys create-registry`"));
  }
  if (!registry.ok()) return registry.status();
  absl::StatusOr<std::optional<Registry::Identity>> identity = (*registry)->ReadIdentity();
  if (!identity.ok()) return identity.status();
  // Only beside a new registry may a root key be made.
  const bool isNew = !identity->has_value();
  absl::StatusOr<std::unique_ptr<RootKey>> root = WaitForRootKey(options, /*mayCreate=*/isNew);
  if (absl::IsNotFound(root.status())) {
    return absl::FailedPreconditionError(StrCat(std::string(root.status().message()), ", but ", (*registry)->name(),
                                                " holds keys that only it can unwrap; restore it from a backup"));
  }
  if (!root.ok()) return root.status();
  const RootKey::Deadline rootDeadline = options.timerNow() + kFirstCalls;
  (*registry)->SetDeadline(rootDeadline);
  absl::StatusOr<RegistryKeys> keys = isNew
                                          ? RegistryKeys::MakeFirst(**root, **registry, options.wallNow(), rootDeadline)
                                          : RegistryKeys::Load(**root, **registry, **identity, rootDeadline);
  if (absl::IsDataLoss(keys.status())) return absl::UnavailableError(keys.status().message());
  if (!keys.ok()) return keys.status();
  std::unique_ptr<Keyring> keyring(new Keyring(options, *std::move(registry), *std::move(root), *std::move(keys)));
  // What was erased before is in no cache. If it cannot be noted now, it is before the first key is given out.
  (void)keyring->NoteAgent(keyring->lastNumber());
  return keyring;
}

Keyring::Keyring(const KeyServiceOptions& options, std::unique_ptr<Registry> registry, std::unique_ptr<RootKey> root,
                 RegistryKeys keys)
    : options_(options),
      registry_(std::move(registry)),
      root_(std::move(root)),
      keys_(std::move(keys)),
      turns_({options.turnEvery, options.steadyNow, options.wallNow, options.timerNow}, *registry_, *root_, keys_),
      unwrapper_(*root_, keys_.owner()),
      openingOfKeys_(registry_->openings()),
      pace_(options.timerNow()),
      newUsers_(options.newUsersPerSecond),
      throwAways_(options.cacheTtl),
      keks_(options, [this](const KekName& name, int64_t window) { return keys_.KekContext(name, window); }) {
  crypto::FillRandom(absl::MakeSpan(self_.id));
  self_.name = options.agentName.empty() ? AgentName() : options.agentName;
  self_.cacheTtl = options.cacheTtl;
}

void Keyring::SetDeadline(std::chrono::steady_clock::time_point deadline) {
  deadline_ = deadline;
  registry_->SetDeadline(deadline);
}

absl::Status Keyring::Ready() {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  TakeEpochs();
  return registry_->openings() == openingOfKeys_ ? absl::OkStatus() : ReloadEpochs();
}

void Keyring::DropExpired() {
  throwAways_.DropExpired(options_.steadyNow());
  const bool isOpen = registry_->EnsureOpen().ok();
  if (isOpen) keks_.Take(*registry_, options_.wallNow());
  keks_.DropExpired();
  if (isOpen) keks_.Ask(*registry_);
}

void Keyring::Reopen() {
  registry_->Reopen();
  hasUnreadableRows_ = false;
}

// Destroying keys needs none: no trouble with the root key or the epoch keys stands in its way.
absl::StatusOr<ErasedUsers> Keyring::EraseUsers(std::optional<std::string_view> keyspace,
                                                absl::Span<const std::string> users) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  std::vector<std::string_view> different;
  absl::flat_hash_map<absl::string_view, size_t> places;
  for (const std::string& user : users) {
    if (places.try_emplace(ToAbsl(user), different.size()).second) different.push_back(user);
  }
  ErasedUsers result;
  result.erasedAt = absl::FromUnixMillis(absl::ToUnixMillis(options_.wallNow()));
  const auto subjectOf = [&](size_t user, std::string_view candidate) {
    return keys_.SubjectOf({Scope::kUser, candidate, different[user]});
  };
  ASSIGN_OR_RETURN(std::vector<Registry::Erased> erased,
                   registry_->EraseUsers(keyspace, different.size(), subjectOf, result.erasedAt));
  result.opening = registry_->openings();
  for (const std::string& user : users) {
    const size_t place = places.at(ToAbsl(user));
    Registry::Erased& from = erased[place];
    ErasedUser& to = result.users.emplace_back();
    to.keyCount = std::exchange(from.keyCount, 0);  // of a user who is given twice, with the first
    for (std::string& name : std::exchange(from.keyspaces, {})) {
      const Subject subject = subjectOf(place, name);
      to.keyspaces.push_back({std::move(name), subject});
    }
    for (Registry::Erased::Earlier& earlier : std::exchange(from.earlier, {})) {
      const Subject subject = subjectOf(place, earlier.keyspace);
      to.earlier.push_back({{std::move(earlier.keyspace), subject}, earlier.time});
    }
    to.erasedBefore = from.erasedBefore;
    to.number = from.number;
    if (!to.keyspaces.empty() && !from.erasedBefore.has_value()) from.erasedBefore = result.erasedAt;
    result.number = std::max(result.number, to.number);
  }
  return result;
}

absl::StatusOr<ErasedUsers> Keyring::EraseSubjects(std::string_view keyspace, absl::Span<const Subject> subjects) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  ErasedUsers result;
  result.erasedAt = absl::FromUnixMillis(absl::ToUnixMillis(options_.wallNow()));
  ASSIGN_OR_RETURN(const std::vector<Registry::Erased> erased,
                   registry_->EraseSubjects(keyspace, subjects, result.erasedAt));
  result.opening = registry_->openings();
  for (size_t i = 0; i < subjects.size(); ++i) {
    const NamedSubject named{std::string(keyspace), subjects[i]};
    ErasedUser& user = result.users.emplace_back();
    user.keyCount = erased[i].keyCount;
    if (!erased[i].keyspaces.empty()) user.keyspaces.push_back(named);
    for (const Registry::Erased::Earlier& earlier : erased[i].earlier) user.earlier.push_back({named, earlier.time});
    user.erasedBefore = erased[i].erasedBefore;
    user.number = erased[i].number;
    result.number = std::max(result.number, user.number);
  }
  return result;
}

absl::StatusOr<KeyService::SubjectsRead> Keyring::ReadErased(absl::Span<const ToldErasure> told) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  std::vector<Subject> subjects;
  for (const ToldErasure& one : told) subjects.push_back(one.subject);
  ASSIGN_OR_RETURN(const std::vector<Registry::KnownFacts> known, registry_->ReadFacts(subjects));
  KeyService::SubjectsRead read;
  for (size_t i = 0; i < told.size(); ++i) {
    read.isErased.push_back(known[i].erased.has_value());
    read.isReadmitted.push_back(!known[i].erased.has_value() && known[i].readmission > told[i].number);
  }
  read.opening = registry_->openings();
  return read;
}

absl::Status Keyring::NoteAgent(int64_t confirmed) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  // What was confirmed to a registry that is opened anew since may be about other erasures: KeyService counts again.
  const bool isReopened = openingOfNote_ != 0 && openingOfNote_ != registry_->openings();
  self_.confirmed = isReopened ? 0 : confirmed;
  self_.epoch = KnownEpoch();
  const SteadyTime now = options_.steadyNow();
  RETURN_IF_ERROR(registry_->NoteAgent(self_));
  noted_ = now;
  openingOfNote_ = registry_->openings();
  return absl::OkStatus();
}

bool Keyring::ShouldNoteAgent(int64_t confirmed) const {
  if (confirmed != self_.confirmed || KnownEpoch() != self_.epoch) return true;
  const auto interval = std::min<std::chrono::milliseconds>(kNoteInterval, options_.cacheTtl / 4);
  return registry_->isShared() && options_.steadyNow() - noted_ >= interval;
}

absl::Status Keyring::EnsureNoted() {
  if (!registry_->isShared()) return absl::OkStatus();
  const auto age = options_.steadyNow() - noted_;
  // A registry that is opened anew, perhaps from a backup or on another server, may not know this agent.
  const bool isReopened = openingOfNote_ != registry_->openings();
  if (!isReopened && age < std::min<std::chrono::milliseconds>(kNoteIsLate, options_.cacheTtl / 2)) {
    return absl::OkStatus();
  }
  absl::Status status = NoteAgent(self_.confirmed);
  return !isReopened && age < options_.cacheTtl ? absl::OkStatus() : status;
}

absl::StatusOr<std::vector<Registry::Agent>> Keyring::ReadAgents() {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  return registry_->ReadAgents();
}

absl::StatusOr<Registry::News> Keyring::Poll() {
  if (absl::Status status = Ready(); !status.ok()) return status;
  return registry_->Poll();
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
  absl::Status status = root_->Check(deadline_);
  // A key that took the place of another, as under the label of a token, does well by itself: only what it does not
  // unwrap shows it.
  if (status.ok() && root_->isRemote() && absl::IsDataLoss(trialStatus_)) {
    status = absl::DataLossError(StrCat(ToStd(trialStatus_.message()), ", or ", root_->name(), " is another key now"));
  }
  rootKeyStatus_ =
      status.ok() ? status
                  : absl::UnavailableError(StrCat(std::string(status.message()),
                                                  "; nothing new is sealed, as a restarted agent could not open it"));
  return rootKeyStatus_;
}

}  // namespace kveil::keys
