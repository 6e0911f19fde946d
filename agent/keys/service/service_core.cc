#include "keys/service/service_core.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

// How often it looks for erasures by other processes, checks the root key, and tries whether what failed works again.
constexpr std::chrono::milliseconds kTick{500};
// How often it looks whether all caches have dropped what was erased, while they have not.
constexpr std::chrono::milliseconds kConfirmTick{20};
// How long after it was woken by the registry it does not listen: many erasures at once are heard of together.
constexpr std::chrono::milliseconds kListenPause{20};
// Polls of one look, each for as many erasures and changes as one tells of.
constexpr int kMostPollsOfALook = 16;
// How long the end waits for the registry to forget this agent.
constexpr std::chrono::milliseconds kEndTimeout{200};
// A look must not make questions wait for long. A registry that is a network away needs some time to answer.
constexpr std::chrono::milliseconds kTickTimeout{200};
// How long whoever tries the keys waits for a remote root key. Then the last trial counts.
constexpr std::chrono::seconds kTrialPatience{2};
// How long health() tells of what happened once.
constexpr std::chrono::seconds kShow{60};
// How often the epochs are looked at. While they turn, this takes a fifth of the time at most.
constexpr std::chrono::seconds kEpochsTick{2};
constexpr std::chrono::milliseconds kTurnPause{20};
constexpr int kTurnShare = 5;
constexpr std::chrono::milliseconds kTurnTimeout{500};

}  // namespace

ServiceCore::ServiceCore(KeyServiceOptions options, std::unique_ptr<Keyring> keyring)
    : options_(std::move(options)),
      keyring_(std::move(keyring)),
      secret_(keyring_->registrySecret().Copy()),
      self_(keyring_->self()),
      confirmations_(keyring_->lastNumber()),
      knownOpenings_(keyring_->openings()),
      nextTick_(options_.timerNow() + kTick) {}

void ServiceCore::Turn(absl::AnyInvocable<void()> task, std::vector<Question> questions) {
  if (task) task();
  if (!questions.empty()) Answer(std::move(questions));
  if (confirmations_.isWaiting()) Confirm();
  if (options_.timerNow() >= nextTick_) {
    Tick();
    nextTick_ = options_.timerNow() + kTick;
  }
  if (options_.timerNow() >= nextEpochs_) StepEpochs();
}

ServiceCore::Rest ServiceCore::Pause() const {
  const Time now = options_.timerNow();
  Rest rest{std::min(nextTick_, nextEpochs_)};
  if (confirmations_.isWaiting()) rest.until = std::min(rest.until, now + kConfirmTick);
  if (now < listenNotBefore_) {
    rest.until = std::min(rest.until, listenNotBefore_);
    return rest;
  }
  rest.descriptor = keyring_->wakeDescriptor();
  rest.isTold = keyring_->isTold();
  return rest;
}

void ServiceCore::Hear() {
  listenNotBefore_ = options_.timerNow() + kListenPause;
  keyring_->SetDeadline(options_.timerNow() + kTickTimeout);
  (void)HearNews();  // if it fails, the next tick tells
}

void ServiceCore::End() {
  AnswerTrials(Time::max());
  keyring_->SetDeadline(options_.timerNow() + kEndTimeout);
  (void)keyring_->ForgetAgent();
}

void ServiceCore::SetDeadline() { keyring_->SetDeadline(options_.timerNow() + options_.registryTimeout); }

void ServiceCore::Answer(std::vector<Question> group) {
  const uint64_t generation = revocations_.generation();
  const Time deadline = options_.timerNow() + options_.registryTimeout;
  absl::Status status = ResolveGroup(group, deadline);
  if (!status.ok() && group.size() > 1) {
    // What one asked for must not fail the others. The deadline is shared, so this ends as soon.
    status = absl::OkStatus();
    for (Question& question : group) {
      std::vector<Question> one;
      question.lookup.result = {};
      one.push_back(std::move(question));
      status.Update(ResolveGroup(one, deadline));
      question = std::move(one.front());
    }
  }
  NoteReopened();
  // Only Tick says that it is well again: a read that works tells nothing about a lock or a full disk.
  if (!status.ok()) health_.Set(Part::kRegistry, status);
  NoteTroubles(group);
  for (Question& question : group) {
    // From before the read: what is revoked after it, the cache leaves out.
    question.lookup.result.generation = generation;
    question.done(std::move(question.lookup.result));
  }
}

absl::Status ServiceCore::ResolveGroup(std::vector<Question>& group, Time deadline) {
  std::vector<Keyring::Lookup*> lookups;
  for (Question& question : group) {
    if (question.lookup.misses.size() <= kMostKeysOfAFetch) {
      lookups.push_back(&question.lookup);
    } else {
      question.lookup.result.status = absl::InvalidArgumentError("a fetch asks for too many keys at once");
    }
  }
  keyring_->SetDeadline(deadline);
  return keyring_->Resolve(lookups);
}

absl::StatusOr<ErasedUsers> ServiceCore::Erase(size_t count,
                                               absl::FunctionRef<absl::StatusOr<ErasedUsers>(Keyring&)> erase) {
  const Time deadline = options_.timerNow() + options_.registryTimeout;
  keyring_->SetDeadline(deadline);
  absl::StatusOr<ErasedUsers> result = erase(*keyring_);
  NoteReopened();
  if (absl::IsUnavailable(result.status())) health_.Set(Part::kRegistry, result.status());
  if (!result.ok()) {
    // Some of many may be erased all the same.
    if (count > 1 && !HearNews().ok()) revocations_.RevokeAll();
    return result;
  }
  size_t keys = 0;
  bool hasErased = false;
  for (const ErasedUser& user : result->users) {
    keys += user.keyCount;
    hasErased |= !user.keyspaces.empty();
  }
  if (!hasErased) {
    result->filesClean = true;
    return result;
  }
  mustPurge_ = true;
  // They are erased all the same, and no cache may go on with them.
  if (!HearNews().ok() || keyring_->lastNumber() < result->number) revocations_.RevokeAll();
  result->filesClean = PurgeErased(deadline);
  log::Info("keys.erased", {{"users", result->users.size()}, {"keys", keys}});
  return result;
}

absl::StatusOr<ChangedUsers> ServiceCore::ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid) {
  SetDeadline();
  absl::StatusOr<ChangedUsers> changed = keyring_->ChangeUsers(changes, uid);
  NoteReopened();
  if (absl::IsUnavailable(changed.status())) health_.Set(Part::kRegistry, changed.status());
  // They are changed all the same, perhaps also after an error, and no cache may go on with what was known before.
  const bool isHeard = HearNews().ok() && (!changed.ok() || keyring_->lastNumber() >= changed->number);
  if (!isHeard) revocations_.RevokeAll();
  return changed;
}

absl::StatusOr<FollowedRecords> ServiceCore::FollowSource(const Registry::SourceMove& move, uint64_t opening,
                                                          absl::Span<const ConsentRecord> records, bool mayLeaveOut) {
  SetDeadline();
  bool mayHaveChanged = false;
  absl::StatusOr<FollowedRecords> followed =
      keyring_->FollowSource(move, opening, records, mayLeaveOut, mayHaveChanged);
  NoteReopened();
  if (mayHaveChanged && !HearNews().ok()) revocations_.RevokeAll();
  return followed;
}

absl::StatusOr<int64_t> ServiceCore::ReadLastErasure() {
  SetDeadline();
  RETURN_IF_ERROR(HearNews());
  return keyring_->lastNumber();
}

absl::StatusOr<KeyService::AgentsRead> ServiceCore::ReadAgents() {
  ASSIGN_OR_RETURN(std::vector<Registry::Agent> agents,
                   AskKeyring([](Keyring& keyring) { return keyring.ReadAgents(); }));
  return KeyService::AgentsRead{std::move(agents), keyring_->openings()};
}

absl::StatusOr<int64_t> ServiceCore::TurnEpochs() {
  StepEpochs();  // what is under way may be another agent's
  const KeyService::EpochNow now = epochNow();
  if (now.number == 0) return absl::UnavailableError("the epochs are not known yet");
  if (now.isTurning) return absl::AlreadyExistsError("a turn of the epochs is under way: kveil epochs list");
  keyring_->AskToTurn();
  StepEpochs();  // so that epochNow() says what it waits for
  return now.number;
}

void ServiceCore::TryUnwrap(absl::AnyInvocable<void(absl::Status)> done) {
  absl::Status begun = AskKeyring([](Keyring& keyring) { return keyring.BeginTrial(); });
  if (!begun.ok()) return done(std::move(begun));
  trials_.push_back({std::move(done), options_.timerNow() + kTrialPatience});
  AnswerTrials(options_.timerNow());
}

std::vector<SourceState> ServiceCore::sourceStates() const {
  const MutexLock lock(mutex_);
  return sourceStates_;
}

KeyService::EpochNow ServiceCore::epochNow() const {
  const MutexLock lock(mutex_);
  return epochNow_;
}

// Tells the caches what any agent has erased or changed.
absl::Status ServiceCore::HearNews() {
  for (int poll = 0; poll < kMostPollsOfALook; ++poll) {
    absl::StatusOr<Registry::News> news = keyring_->Poll();
    NoteReopened();
    if (!news.ok()) return news.status();
    if (!news->erased.empty() || !news->changed.empty()) revocations_.Revoke(news->erased, news->changed);
    if (news->mayHaveMore) continue;
    // Not before all is told: a change that was made again meanwhile has moved to a number further on.
    confirmations_.Told(keyring_->lastNumber(), revocations_.generation());
    break;
  }
  return absl::OkStatus();
}

// At once, as a command may wait for it. When it cannot be noted now, the next tick tries again.
void ServiceCore::Confirm() {
  NoteReopened();
  if (!confirmations_.TakenIn(revocations_.DroppedByAll())) return;
  keyring_->SetDeadline(options_.timerNow() + kTickTimeout);
  (void)keyring_->NoteAgent(confirmations_.confirmed());
}

// Whether the registry's files are free of erased keys now.
bool ServiceCore::PurgeErased(Time deadline) {
  keyring_->SetDeadline(deadline);
  const absl::Status status = keyring_->PurgeErased();
  // What cannot be done is not tried again, and is no trouble that passes.
  mustPurge_ = !status.ok() && !absl::IsUnimplemented(status);
  health_.Set(Part::kErasedCopies, mustPurge_ ? status : absl::OkStatus());
  return status.ok();
}

void ServiceCore::NoteReopened() {
  if (keyring_->openings() == knownOpenings_) return;
  knownOpenings_ = keyring_->openings();
  revocations_.RevokeAll();
  confirmations_.Reopened(keyring_->lastNumber(), revocations_.generation());
  health_.Set(Part::kDamage, absl::OkStatus());  // it may have been restored; else the next who asks finds out
}

void ServiceCore::AnswerTrials(Time now) {
  if (trials_.empty()) return;
  const std::optional<absl::Status> answer = keyring_->TrialAnswer();
  std::vector<Trial> waiting;
  for (Trial& trial : std::exchange(trials_, {})) {
    if (answer.has_value() || now >= trial.patience) {
      trial.done(answer.value_or(keyring_->LastTrial()));
    } else {
      waiting.push_back(std::move(trial));
    }
  }
  trials_ = std::move(waiting);
}

void ServiceCore::Tick() {
  const Time deadline = options_.timerNow() + kTickTimeout;
  keyring_->SetDeadline(deadline);
  const absl::Status rootKey = keyring_->CheckRootKey();
  health_.Set(Part::kRootKey, rootKey.ok() ? keyring_->root().Warning() : rootKey);
  AnswerTrials(options_.timerNow());
  health_.Set(Part::kRoom, keyring_->CheckRoom());
  health_.Expire(options_.timerNow());
  // Before all else that asks the registry: a slow one must not keep erasures from being heard of.
  const absl::Status heard = HearNews();
  Confirm();
  keyring_->RefreshSources();
  health_.Set(Part::kConsents, keyring_->SourcesProblem());
  {
    std::vector<SourceState> states = keyring_->SourceStates();
    const MutexLock lock(mutex_);
    sourceStates_ = std::move(states);
  }
  if (heard.ok() && keyring_->ShouldNoteAgent(confirmations_.confirmed())) {
    health_.Set(Part::kAgents, keyring_->NoteAgent(confirmations_.confirmed()));
  }
  if (!heard.ok()) {
    health_.Set(Part::kRegistry, heard);
  } else if (!health_.Of(Part::kRegistry).ok()) {
    health_.Set(Part::kRegistry, keyring_->CheckWritable());
  }
  // Whether a refusal to unwrap is over, nothing but unwrapping shows.
  if (!rootKey.ok() && keyring_->root().isRemote()) (void)keyring_->BeginTrial();
  if (mustPurge_) PurgeErased(deadline);
  keyring_->DropExpired();
  health_.Set(Part::kKeks, keyring_->KeksProblem());
}

void ServiceCore::StepEpochs() {
  const Time begun = options_.timerNow();
  keyring_->SetDeadline(begun + kTurnTimeout);
  const absl::StatusOr<EpochTurns::Result> step = keyring_->StepEpochs();
  NoteReopened();
  if (step.ok() && step->hasDestroyed) {
    mustPurge_ = true;
    PurgeErased(options_.timerNow() + kTurnTimeout);
  }
  health_.Set(Part::kEpochs, keyring_->turns().problem());
  ShowEpochs();
  const Time end = options_.timerNow();
  nextEpochs_ = end + kEpochsTick;
  if (step.ok() && step->hasMore) {
    nextEpochs_ = end + std::max<Time::duration>(kTurnPause, (kTurnShare - 1) * (end - begun));
  }
}

void ServiceCore::ShowEpochs() {
  KeyService::EpochNow now;
  const EpochTurns& turns = keyring_->turns();
  now.note = ToStd(turns.note().message());
  now.isTurning = keyring_->epochs().size() > 1;
  if (!now.isTurning) now.waits = ToStd((turns.waits().ok() ? turns.problem() : turns.waits()).message());
  if (turns.forgotten().has_value()) {
    now.irrecoverable = {turns.forgotten()->epoch, turns.forgotten()->erasures, turns.forgotten()->destroyed};
  }
  for (const Registry::Epoch& epoch : keyring_->epochs()) {
    if (epoch.isUsed) {
      now.number = epoch.number;
      now.age = epoch.age;
    }
  }
  {
    const MutexLock lock(mutex_);
    epochNow_ = std::move(now);
  }
}

void ServiceCore::NoteTroubles(const std::vector<Question>& group) {
  const Time now = options_.timerNow();
  for (const Question& question : group) {
    const FetchResult& result = question.lookup.result;
    if (!result.limit.ok()) {
      const absl::Status room = keyring_->CheckRoom();
      health_.Set(Part::kRoom, room);
      if (room.ok()) health_.SetUntil(Part::kNewUsers, result.limit, now + kShow);
    }
    if (!result.damage.ok()) health_.SetUntil(Part::kDamage, result.damage, now + kShow);
  }
  // All caches begin anew with it, so not each time.
  if (keyring_->hasUnreadableRows() && now >= reopenNotBefore_) {
    keyring_->Reopen();
    reopenNotBefore_ = now + kShow;
  }
}

}  // namespace kveil::keys
