// Following the registry's epochs: reading them, having their keys unwrapped, and turning them.
#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/service/keyring.h"

namespace kveil::keys {
namespace {

// How soon the registry is asked again about an epoch that it did not have.
constexpr std::chrono::seconds kAskAgain{1};
// Counting the keys takes one part of the time of the service's thread in so many, however often somebody asks.
constexpr int kCountShare = 20;

}  // namespace

absl::StatusOr<std::vector<Registry::Epoch>> Keyring::ReadEpochs() {
  absl::StatusOr<std::vector<Registry::Epoch>> rows = RegistryKeys::ReadEpochs(*registry_);
  if (rows.ok()) return rows;
  if (absl::IsDataLoss(rows.status())) registry_->Reopen();
  return absl::UnavailableError(rows.status().message());
}

absl::Status Keyring::ReloadEpochs() {
  if (unwrapper_.isBusy() || (root_->isRemote() && !pace_.IsDue(options_.timerNow(), /*isWell=*/false)))
    return reloadStatus_;
  ASSIGN_OR_RETURN(std::vector<Registry::Epoch> rows, ReadEpochs());
  if (keys_.Knows(rows)) {
    keys_.Follow(rows);
    // A standby that has taken over may lack an epoch. The next one has its number, and another key.
    keys_.DropOthers(rows);
    openingOfKeys_ = registry_->openings();
    reloadStatus_ = absl::OkStatus();
    return reloadStatus_;
  }
  BeginUnwrapping(std::move(rows));
  return reloadStatus_;
}

void Keyring::BeginUnwrapping(std::vector<Registry::Epoch> rows) {
  pace_.Begin(options_.timerNow(), /*isWell=*/false);
  asked_ = rows;
  unwrapper_.Begin(std::move(rows), registry_->openings());
  TakeEpochs();
}

void Keyring::TakeEpochs() {
  std::optional<EpochUnwrapper::Answer> answer = unwrapper_.Take();
  if (!answer.has_value()) return;
  trialStatus_ = answer->epochs.status();
  // An old copy of a registry whose root key is a file: no provider has to be asked again before that is sure.
  const bool isOldCopy = absl::IsFailedPrecondition(trialStatus_) && !root_->isRemote();
  if (trialStatus_.ok()) {
    keys_.Add(*std::move(answer->epochs));
    keys_.Follow(asked_);
    if (answer->opening != openingOfKeys_) keys_.DropOthers(asked_);
    openingOfKeys_ = answer->opening;
    reloadStatus_ = absl::OkStatus();
  } else if ((absl::IsDataLoss(trialStatus_) || isOldCopy) && answer->opening != openingOfKeys_) {
    // What is in the registry now is no good. It may be put right, so it is read anew.
    reloadStatus_ = absl::UnavailableError(trialStatus_.message());
    registry_->Reopen();
  }
}

// With the root key in use, which is the one a restarted agent would get when CheckRootKey says so. When it fails, the
// epoch keys in use stay as they are: what can be opened by them is opened.
absl::Status Keyring::BeginTrial() {
  const absl::Status rootKey = CheckRootKey();
  // A remote one that refused to unwrap is asked to unwrap all the same: nothing else shows that it does so again.
  if (!rootKey.ok() && !root_->isRemote()) return rootKey;
  if (absl::Status status = Ready(); !status.ok()) return absl::UnavailableError(status.message());
  absl::StatusOr<std::vector<Registry::Epoch>> rows = RegistryKeys::ReadEpochs(*registry_);
  if (!rows.ok()) return absl::UnavailableError(rows.status().message());
  if (unwrapper_.isBusy()) return rootKey;
  const SteadyTime now = options_.timerNow();
  const bool isWell = rootKey.ok() && keys_.Knows(*rows) && trialStatus_.ok();
  if (root_->isRemote() && !pace_.IsDue(now, isWell)) return rootKey;
  pace_.Begin(now, isWell);
  asked_ = *rows;
  unwrapper_.Begin(*std::move(rows), registry_->openings());
  return rootKey;
}

std::optional<absl::Status> Keyring::TrialAnswer() {
  TakeEpochs();
  if (unwrapper_.isBusy()) return std::nullopt;
  return LastTrial();
}

// An outage of a remote root key counts when its Check says so. Until then the keys in use serve on.
absl::Status Keyring::LastTrial() const {
  if (trialStatus_.ok() || (root_->isRemote() && absl::IsUnavailable(trialStatus_))) return absl::OkStatus();
  return absl::UnavailableError(trialStatus_.message());
}

// The keys of destroyed epochs are dropped here, and not while rows are being looked at, which may be a moment old.
absl::StatusOr<EpochTurns::Result> Keyring::StepEpochs() {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(std::vector<Registry::Epoch> rows, ReadEpochs());
  epochs_ = rows;
  if (!keys_.Knows(rows)) {
    const bool mayAsk =
        !unwrapper_.isBusy() && (!root_->isRemote() || pace_.IsDue(options_.timerNow(), /*isWell=*/false));
    if (mayAsk) BeginUnwrapping(std::move(rows));
    if (!trialStatus_.ok()) {
      turns_.Stop(
          absl::UnavailableError(StrCat("the key of an epoch cannot be unwrapped: ", ToStd(trialStatus_.message()))));
    }
    return EpochTurns::Result{trialStatus_.ok(), false};
  }
  keys_.Follow(rows);
  keys_.DropOthers(rows);
  if (self_.epoch != KnownEpoch()) RETURN_IF_ERROR(NoteAgent(self_.confirmed));
  return turns_.Step(rows, self_.id, rootKeyStatus_.ok());
}

// Of a registry that was opened anew it may be another one with the same number, until it is looked at.
int64_t Keyring::KnownEpoch() const { return openingOfKeys_ == registry_->openings() ? keys_.newestEpoch() : 1; }

void Keyring::MeetEpoch(int64_t number) {
  if (keys_.HasEpoch(number) || unwrapper_.isBusy()) return;
  const SteadyTime now = options_.timerNow();
  if (now < askEpochsNotBefore_) return;
  askEpochsNotBefore_ = now + kAskAgain;
  metEpochs_.reset();
  absl::StatusOr<std::vector<Registry::Epoch>> rows = ReadEpochs();
  if (!rows.ok()) return;
  metEpochs_.emplace();
  for (const Registry::Epoch& row : *rows) metEpochs_->push_back(row.number);
  if (!IsMissing(number)) BeginUnwrapping(*std::move(rows));
}

bool Keyring::IsMissing(int64_t number) const {
  return metEpochs_.has_value() && options_.timerNow() < askEpochsNotBefore_ &&
         std::find(metEpochs_->begin(), metEpochs_->end(), number) == metEpochs_->end();
}

// Only with all of the registry's epoch keys, or a key would be given up that another agent can unwrap.
absl::StatusOr<KeyService::GivenUp> Keyring::GiveUpKey(const crypto::KeyId& id) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(const std::vector<Registry::Epoch> rows, ReadEpochs());
  if (!keys_.Knows(rows)) return absl::UnavailableError("not all epoch keys are unwrapped yet; ask again");
  ASSIGN_OR_RETURN(const std::vector<Registry::Found> found, registry_->FindManyById({&id, 1}));
  RETURN_IF_ERROR(found.front().status());
  if (!found.front()->has_value()) return absl::NotFoundError(StrCat(registry_->name(), " has no such key"));
  const Registry::Row& row = **found.front();
  if (row.erased) {
    ASSIGN_OR_RETURN(const std::vector<Registry::KnownFacts> known, registry_->ReadFacts({&row.name.subject, 1}));
    const bool isOfErasure = known.front().erased.has_value() || known.front().readmission != 0;
    if (isOfErasure) return absl::AlreadyExistsError("the key is erased, as its user is or was");
    return KeyService::GivenUp{row.scope, row.epoch};  // before: who asked then may not have heard of it
  }
  // As a turn does it: a key under a KEK stays wrapped by that, which may be out of reach.
  const absl::Status unwrapped = keys_.Rewrap(row).status();
  if (unwrapped.ok()) return absl::FailedPreconditionError("the key can be unwrapped: it is not given up");
  if (!absl::IsDataLoss(unwrapped)) return unwrapped;
  ASSIGN_OR_RETURN(const bool isDone, registry_->GiveUpRow(row, options_.wallNow()));
  if (!isDone) return absl::UnavailableError("its row has just changed; ask again");
  return KeyService::GivenUp{row.scope, row.epoch};
}

absl::Status Keyring::CountKeys() {
  const SteadyTime begun = options_.timerNow();
  if (begun < countNotBefore_) return absl::OkStatus();
  ASSIGN_OR_RETURN(counts_, registry_->CountKeys());
  const SteadyTime end = options_.timerNow();
  countNotBefore_ = end + kCountShare * (end - begun);
  return absl::OkStatus();
}

absl::StatusOr<KeyService::Epochs> Keyring::ListEpochs(bool withKeys) {
  RETURN_IF_ERROR(Ready());
  ASSIGN_OR_RETURN(const std::vector<Registry::Epoch> rows, registry_->ReadEpochs(/*withDestroyed=*/true));
  if (withKeys) RETURN_IF_ERROR(CountKeys());
  const Registry::EpochCounts& counts = counts_;
  KeyService::Epochs epochs;
  epochs.isAll = withKeys && counts.isAll;
  epochs.oldCopies = turns_.oldCopies();
  epochs.problem = ToStd(turns_.problem().message());
  epochs.note = ToStd(turns_.note().message());
  epochs.unreadable = turns_.unreadable().ids();
  const int64_t newest = rows.empty() ? 0 : rows.back().number;
  for (const Registry::Epoch& row : rows) {
    using State = KeyService::EpochState;
    KeyService::EpochInfo& info = epochs.epochs.emplace_back();
    info.number = row.number;
    info.made = options_.wallNow() - absl::FromChrono(row.age);
    info.state = row.wrappedKey.empty() ? State::kDestroyed
                 : !row.isUsed          ? State::kComing
                 : row.number == newest ? State::kInUse
                 : rows.back().isUsed   ? State::kEnding
                                        : State::kInUse;
    if (info.state == State::kDestroyed && row.endAge.has_value()) {
      info.destroyed = options_.wallNow() - absl::FromChrono(*row.endAge);
    }
    for (const Registry::EpochCount& count : counts.counts) {
      if (withKeys && count.epoch == row.number) info.keys = count.keys;
    }
  }
  return epochs;
}

}  // namespace kveil::keys
