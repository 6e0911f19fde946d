// The thread behind KeyService. Questions are answered in turns of several, so that many new keys cost one sync of the
// disk. A turn is short: whoever comes meanwhile, with a question or an erasure, waits for one of them at most.
#include "keys/service/key_service.h"

#include <algorithm>
#include <deque>
#include <future>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/service/confirmations.h"
#include "keys/service/fair_queue.h"
#include "keys/service/keyring.h"
#include "keys/service/revocations.h"
#include "keys/service/service_health.h"
#include "keys/service/sleep.h"

namespace kveil::keys {
namespace {

using RealClock = std::chrono::steady_clock;

// How often the thread looks for erasures by other processes, checks the root key, and tries whether what failed works
// again.
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
// Of a turn. It ends with the question that reaches either.
constexpr size_t kMostKeysOfATurn = 512;
constexpr size_t kMostQuestionsOfATurn = 64;
// How long whoever tries the keys waits for a remote root key. Then the last trial counts.
constexpr std::chrono::seconds kTrialPatience{2};
// How long health() tells of what happened once.
constexpr std::chrono::seconds kShow{60};
// How often the epochs are looked at. While they turn, the thread does so for a fifth of its time at most.
constexpr std::chrono::seconds kEpochsTick{2};
constexpr std::chrono::milliseconds kTurnPause{20};
constexpr int kTurnShare = 5;
constexpr std::chrono::milliseconds kTurnTimeout{500};

}  // namespace

class KeyService::Worker {
 public:
  Worker(KeyServiceOptions options, std::unique_ptr<Keyring> keyring)
      : options_(std::move(options)),
        keyring_(std::move(keyring)),
        secret_(keyring_->registrySecret().Copy()),
        self_(keyring_->self()),
        confirmations_(keyring_->lastNumber()) {
    knownOpenings_ = keyring_->openings();
    thread_ = std::thread([this] { Run(); });
  }

  ~Worker() {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    sleep_.Wake();
    thread_.join();
  }

  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
    bool wasAsleep;
    {
      const MutexLock lock(mutex_);
      questions_.Push(workload, {{std::move(misses), std::string(workload), {}}, std::move(done)});
      wasAsleep = std::exchange(isAsleep_, false);
    }
    if (wasAsleep) sleep_.Wake();
  }

  absl::StatusOr<ErasedUsers> Erase(std::optional<std::string_view> keyspace, absl::Span<const std::string> users) {
    std::promise<absl::StatusOr<ErasedUsers>> promise;
    RunSoon([&] { promise.set_value(EraseNow(keyspace, users)); });
    return promise.get_future().get();
  }

  absl::StatusOr<int64_t> ReadLastErasure() {
    return Ask<int64_t>([&]() -> absl::StatusOr<int64_t> {
      RETURN_IF_ERROR(HearNews());
      return keyring_->lastNumber();
    });
  }

  absl::StatusOr<AgentsRead> ReadAgents() {
    return Ask<AgentsRead>([&]() -> absl::StatusOr<AgentsRead> {
      absl::StatusOr<std::vector<Registry::Agent>> agents = keyring_->ReadAgents();
      NoteReopened();
      if (!agents.ok()) return agents.status();
      return AgentsRead{*std::move(agents), keyring_->openings()};
    });
  }

  absl::StatusOr<ChangedUsers> ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid) {
    return Ask<ChangedUsers>([&] { return ChangeUsersNow(changes, uid); });
  }

  absl::StatusOr<std::vector<KnownUser>> ReadUser(std::optional<std::string_view> keyspace, std::string_view user) {
    return AskKeyring<std::vector<KnownUser>>([&] { return keyring_->ReadUser(keyspace, user); });
  }

  absl::StatusOr<std::vector<std::optional<Subject>>> ReadSubjects(absl::Span<const crypto::KeyId> keys) {
    return AskKeyring<std::vector<std::optional<Subject>>>([&] { return keyring_->ReadSubjects(keys); });
  }

  absl::StatusOr<std::vector<NamedSubject>> ReadSubjectsOf(std::optional<std::string_view> keyspace,
                                                           std::string_view user) {
    return AskKeyring<std::vector<NamedSubject>>([&] { return keyring_->ReadSubjectsOf(keyspace, user); });
  }

  absl::StatusOr<std::vector<std::string>> ReadKeyspaces() {
    return AskKeyring<std::vector<std::string>>([&] { return keyring_->ReadKeyspaces(); });
  }

  absl::StatusOr<std::vector<Registry::Source>> ReadSources() {
    return AskKeyring<std::vector<Registry::Source>>([&] { return keyring_->ReadSources(); });
  }

  absl::StatusOr<std::optional<LedSource>> LeadSource(std::string_view keyspace, std::chrono::milliseconds lease) {
    return AskKeyring<std::optional<LedSource>>([&] { return keyring_->LeadSource(keyspace, lease); });
  }

  absl::Status ReleaseSource(std::string_view keyspace, int64_t term) {
    const absl::StatusOr<bool> released = AskKeyring<bool>([&]() -> absl::StatusOr<bool> {
      RETURN_IF_ERROR(keyring_->ReleaseSource(keyspace, term));
      return true;
    });
    return released.status();
  }

  absl::StatusOr<RereadAsked> RereadSource(std::string_view keyspace) {
    return AskKeyring<RereadAsked>([&] { return keyring_->RereadSource(keyspace); });
  }

  absl::StatusOr<FollowedRecords> FollowSource(const Registry::SourceMove& move, uint64_t opening,
                                               absl::Span<const ConsentRecord> records, bool mayLeaveOut) {
    return Ask<FollowedRecords>([&] {
      bool mayHaveChanged = false;
      absl::StatusOr<FollowedRecords> followed =
          keyring_->FollowSource(move, opening, records, mayLeaveOut, mayHaveChanged);
      NoteReopened();
      if (mayHaveChanged && !HearNews().ok()) revocations_.RevokeAll();
      return followed;
    });
  }

  absl::StatusOr<Epochs> ListEpochs(bool withKeys) {
    return AskKeyring<Epochs>([&] { return keyring_->ListEpochs(withKeys); });
  }

  absl::StatusOr<int64_t> TurnEpochs() {
    return Ask<int64_t>([&]() -> absl::StatusOr<int64_t> {
      StepEpochs();  // what is under way may be another agent's
      const EpochNow now = epochNow();
      if (now.number == 0) return absl::UnavailableError("the epochs are not known yet");
      if (now.isTurning) return absl::AlreadyExistsError("a turn of the epochs is under way: kveil epochs list");
      keyring_->AskToTurn();
      nextEpochs_ = RealClock::now();
      return now.number;
    });
  }

  EpochNow epochNow() const {
    const MutexLock lock(mutex_);
    return epochNow_;
  }

  void TryUnwrap(absl::AnyInvocable<void(absl::Status)> done) {
    RunSoon([this, done = std::move(done)]() mutable {
      keyring_->SetDeadline(RealClock::now() + options_.registryTimeout);
      absl::Status begun = keyring_->BeginTrial();
      NoteReopened();
      if (!begun.ok()) return done(std::move(begun));
      trials_.push_back({std::move(done), RealClock::now() + kTrialPatience});
      AnswerTrials(RealClock::now());
    });
  }

  RootKey::Stats rootKeyStats() const { return keyring_->root().stats(); }
  absl::Status health() const { return health_.Sum(); }
  std::vector<SourceState> sourceStates() const {
    const MutexLock lock(mutex_);
    return sourceStates_;
  }

  const KeyServiceOptions& options() const { return options_; }
  const Revocations& revocations() const { return revocations_; }
  const Keyring::Self& self() const { return self_; }
  const crypto::SecretKey& secret() const { return secret_; }

 private:
  struct Question {
    Keyring::Lookup lookup;
    absl::AnyInvocable<void(FetchResult)> done;
  };
  struct Trial {
    absl::AnyInvocable<void(absl::Status)> done;
    RealClock::time_point patience;
  };
  using Part = ServiceHealth::Part;

  // The answer of the service's thread.
  template <typename T, typename Question>
  absl::StatusOr<T> Ask(Question question) {
    std::promise<absl::StatusOr<T>> promise;
    RunSoon([&] {
      keyring_->SetDeadline(RealClock::now() + options_.registryTimeout);
      promise.set_value(question());
    });
    return promise.get_future().get();
  }
  // The same of what the keyring answers, which may have opened the registry anew for that.
  template <typename T, typename Question>
  absl::StatusOr<T> AskKeyring(Question question) {
    return Ask<T>([&] {
      absl::StatusOr<T> answer = question();
      NoteReopened();
      return answer;
    });
  }
  void RunSoon(absl::AnyInvocable<void()> task) {
    bool wasAsleep;
    {
      const MutexLock lock(mutex_);
      tasks_.push_back(std::move(task));
      wasAsleep = std::exchange(isAsleep_, false);
    }
    if (wasAsleep) sleep_.Wake();
  }
  void Run();
  bool ShouldSleep();
  void SleepUntil(RealClock::time_point time);
  std::vector<Question> NextTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Answer(std::vector<Question> group);
  absl::Status ResolveGroup(std::vector<Question>& group, RealClock::time_point deadline);
  absl::StatusOr<ErasedUsers> EraseNow(std::optional<std::string_view> keyspace, absl::Span<const std::string> users);
  absl::StatusOr<ChangedUsers> ChangeUsersNow(absl::Span<const UserChange> changes, uint32_t uid);
  void AnswerTrials(RealClock::time_point now);
  void Tick();
  void StepEpochs();
  absl::Status HearNews();
  void Confirm();
  bool PurgeErased(RealClock::time_point deadline);
  void NoteReopened();
  void NoteTroubles(const std::vector<Question>& group);

  const KeyServiceOptions options_;
  const std::unique_ptr<Keyring> keyring_;  // the thread's
  const crypto::SecretKey secret_;
  const Keyring::Self self_;
  Revocations revocations_;
  Confirmations confirmations_;
  uint64_t knownOpenings_ = 0;
  bool mustPurge_ = true;  // an erased key may still be in the files: of this process or one that was killed
  RealClock::time_point reopenNotBefore_;
  std::vector<Trial> trials_;  // that wait for the root key
  RealClock::time_point nextEpochs_;
  ServiceHealth health_;

  Sleep sleep_;
  RealClock::time_point listenNotBefore_;
  mutable Mutex mutex_;
  bool isAsleep_ ABSL_GUARDED_BY(mutex_) = false;
  FairQueue<Question> questions_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);  // erasures above all
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<SourceState> sourceStates_ ABSL_GUARDED_BY(mutex_);
  EpochNow epochNow_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

void KeyService::Worker::Run() {
  RealClock::time_point nextTick = RealClock::now() + kTick;
  for (;;) {
    if (ShouldSleep()) SleepUntil(std::min(nextTick, nextEpochs_));
    absl::AnyInvocable<void()> task;
    std::vector<Question> group;
    {
      const MutexLock lock(mutex_);
      isAsleep_ = false;
      if (!tasks_.empty()) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      // One of either, so that none waits for many of the others.
      group = NextTurn();
      if (stopping_ && !task && group.empty()) break;
    }
    if (task) task();
    if (!group.empty()) Answer(std::move(group));
    if (confirmations_.isWaiting()) Confirm();
    if (RealClock::now() >= nextTick) {
      Tick();
      nextTick = RealClock::now() + kTick;
    }
    if (RealClock::now() >= nextEpochs_) StepEpochs();
  }
  AnswerTrials(RealClock::time_point::max());
  keyring_->SetDeadline(RealClock::now() + kEndTimeout);
  (void)keyring_->ForgetAgent();
}

bool KeyService::Worker::ShouldSleep() {
  const MutexLock lock(mutex_);
  isAsleep_ = !stopping_ && questions_.empty() && tasks_.empty();
  return isAsleep_;
}

void KeyService::Worker::SleepUntil(RealClock::time_point time) {
  const RealClock::time_point now = RealClock::now();
  if (confirmations_.isWaiting()) time = std::min(time, now + kConfirmTick);
  const bool listens = now >= listenNotBefore_;
  if (!listens) time = std::min(time, listenNotBefore_);
  const bool isTold = listens && keyring_->isTold();
  if (!isTold && !sleep_.Until(time, listens ? keyring_->wakeDescriptor() : -1)) return;
  listenNotBefore_ = RealClock::now() + kListenPause;
  keyring_->SetDeadline(RealClock::now() + kTickTimeout);
  (void)HearNews();  // if it fails, the next tick tells
}

std::vector<KeyService::Worker::Question> KeyService::Worker::NextTurn() {
  std::vector<Question> turn;
  size_t keys = 0;
  while (!questions_.empty() && keys < kMostKeysOfATurn && turn.size() < kMostQuestionsOfATurn) {
    turn.push_back(questions_.Pop());
    keys += turn.back().lookup.misses.size();
  }
  return turn;
}

void KeyService::Worker::Answer(std::vector<Question> group) {
  const uint64_t generation = revocations_.generation();
  const RealClock::time_point deadline = RealClock::now() + options_.registryTimeout;
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

absl::Status KeyService::Worker::ResolveGroup(std::vector<Question>& group, RealClock::time_point deadline) {
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

absl::StatusOr<ErasedUsers> KeyService::Worker::EraseNow(std::optional<std::string_view> keyspace,
                                                         absl::Span<const std::string> users) {
  const RealClock::time_point deadline = RealClock::now() + options_.registryTimeout;
  keyring_->SetDeadline(deadline);
  absl::StatusOr<ErasedUsers> result = keyring_->EraseUsers(keyspace, users);
  NoteReopened();
  if (absl::IsUnavailable(result.status())) health_.Set(Part::kRegistry, result.status());
  if (!result.ok()) {
    // Some of many may be erased all the same.
    if (users.size() > 1 && !HearNews().ok()) revocations_.RevokeAll();
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

absl::StatusOr<ChangedUsers> KeyService::Worker::ChangeUsersNow(absl::Span<const UserChange> changes, uint32_t uid) {
  absl::StatusOr<ChangedUsers> changed = keyring_->ChangeUsers(changes, uid);
  NoteReopened();
  if (absl::IsUnavailable(changed.status())) health_.Set(Part::kRegistry, changed.status());
  // They are changed all the same, perhaps also after an error, and no cache may go on with what was known before.
  const bool isHeard = HearNews().ok() && (!changed.ok() || keyring_->lastNumber() >= changed->number);
  if (!isHeard) revocations_.RevokeAll();
  return changed;
}

// Tells the caches what any agent has erased or changed.
absl::Status KeyService::Worker::HearNews() {
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
void KeyService::Worker::Confirm() {
  NoteReopened();
  if (!confirmations_.TakenIn(revocations_.DroppedByAll())) return;
  keyring_->SetDeadline(RealClock::now() + kTickTimeout);
  (void)keyring_->NoteAgent(confirmations_.confirmed());
}

// Whether the registry's files are free of erased keys now.
bool KeyService::Worker::PurgeErased(RealClock::time_point deadline) {
  keyring_->SetDeadline(deadline);
  const absl::Status status = keyring_->PurgeErased();
  // What cannot be done is not tried again, and is no trouble that passes.
  mustPurge_ = !status.ok() && !absl::IsUnimplemented(status);
  health_.Set(Part::kErasedCopies, mustPurge_ ? status : absl::OkStatus());
  return status.ok();
}

void KeyService::Worker::NoteReopened() {
  if (keyring_->openings() == knownOpenings_) return;
  knownOpenings_ = keyring_->openings();
  revocations_.RevokeAll();
  confirmations_.Reopened(keyring_->lastNumber(), revocations_.generation());
  health_.Set(Part::kDamage, absl::OkStatus());  // it may have been restored; else the next who asks finds out
}

void KeyService::Worker::AnswerTrials(RealClock::time_point now) {
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

void KeyService::Worker::Tick() {
  const RealClock::time_point deadline = RealClock::now() + kTickTimeout;
  keyring_->SetDeadline(deadline);
  const absl::Status rootKey = keyring_->CheckRootKey();
  health_.Set(Part::kRootKey, rootKey.ok() ? keyring_->root().Warning() : rootKey);
  AnswerTrials(RealClock::now());
  health_.Set(Part::kRoom, keyring_->CheckRoom());
  health_.Expire(RealClock::now());
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
}

void KeyService::Worker::StepEpochs() {
  const RealClock::time_point begun = RealClock::now();
  keyring_->SetDeadline(begun + kTurnTimeout);
  const absl::StatusOr<EpochTurns::Result> step = keyring_->StepEpochs();
  NoteReopened();
  if (step.ok() && step->hasDestroyed) {
    mustPurge_ = true;
    PurgeErased(RealClock::now() + kTurnTimeout);
  }
  health_.Set(Part::kEpochs, keyring_->turns().problem());
  EpochNow now;
  now.note = ToStd(keyring_->turns().note().message());
  now.isTurning = keyring_->epochs().size() > 1;
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
  const RealClock::time_point end = RealClock::now();
  nextEpochs_ = end + kEpochsTick;
  if (step.ok() && step->hasMore) {
    nextEpochs_ = end + std::max<RealClock::duration>(kTurnPause, (kTurnShare - 1) * (end - begun));
  }
}

void KeyService::Worker::NoteTroubles(const std::vector<Question>& group) {
  const RealClock::time_point now = RealClock::now();
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

absl::StatusOr<std::unique_ptr<KeyService>> KeyService::Open(KeyServiceOptions options) {
  if (options.cacheTtl < std::chrono::seconds(1)) return absl::InvalidArgumentError("keys.cacheTtl is at least 1s");
  if (options.newUsersPerSecond < 1) return absl::InvalidArgumentError("keys.newUsersPerSecond is at least 1");
  absl::StatusOr<std::unique_ptr<Keyring>> keyring = Keyring::Open(options);
  if (!keyring.ok()) return keyring.status();
  return std::unique_ptr<KeyService>(new KeyService(std::make_unique<Worker>(std::move(options), *std::move(keyring))));
}

KeyService::KeyService(std::unique_ptr<Worker> worker) : worker_(std::move(worker)) {}
KeyService::~KeyService() = default;

absl::StatusOr<EraseResult> KeyService::Erase(std::optional<std::string_view> keyspace, std::string_view user) {
  const std::string users[] = {std::string(user)};
  ASSIGN_OR_RETURN(ErasedUsers erased, worker_->Erase(keyspace, users));
  const ErasedUser& one = erased.users.front();
  RETURN_IF_ERROR(StatusOf(one));
  EraseResult result{erased.erasedAt, one.keyCount, {}, erased.filesClean, one.number};
  for (const ErasedUser::Keyspace& keyspace : one.keyspaces) result.keyspaces.push_back(keyspace.name);
  return result;
}

absl::StatusOr<ErasedUsers> KeyService::EraseUsers(std::optional<std::string_view> keyspace,
                                                   absl::Span<const std::string> users) {
  if (users.size() > kMostUsersOfAnErasure) {
    return absl::InvalidArgumentError(StrCat("at most ", kMostUsersOfAnErasure, " users are erased at once"));
  }
  return worker_->Erase(keyspace, users);
}

absl::StatusOr<ChangedUsers> KeyService::ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid) {
  if (changes.size() > kMostUserChanges) {
    return absl::InvalidArgumentError(StrCat("at most ", kMostUserChanges, " changes are made at once"));
  }
  return worker_->ChangeUsers(changes, uid);
}

absl::StatusOr<std::vector<KnownUser>> KeyService::ReadUser(std::optional<std::string_view> keyspace,
                                                            std::string_view user) {
  return worker_->ReadUser(keyspace, user);
}

absl::StatusOr<std::vector<std::optional<Subject>>> KeyService::ReadSubjects(absl::Span<const crypto::KeyId> keys) {
  return worker_->ReadSubjects(keys);
}

absl::StatusOr<std::vector<NamedSubject>> KeyService::ReadSubjectsOf(std::optional<std::string_view> keyspace,
                                                                     std::string_view user) {
  return worker_->ReadSubjectsOf(keyspace, user);
}

absl::StatusOr<std::vector<std::string>> KeyService::ReadKeyspaces() { return worker_->ReadKeyspaces(); }

absl::StatusOr<std::vector<Registry::Source>> KeyService::ReadSources() { return worker_->ReadSources(); }

absl::StatusOr<std::optional<LedSource>> KeyService::LeadSource(std::string_view keyspace,
                                                                std::chrono::milliseconds lease) {
  return worker_->LeadSource(keyspace, lease);
}

absl::Status KeyService::ReleaseSource(std::string_view keyspace, int64_t term) {
  return worker_->ReleaseSource(keyspace, term);
}

absl::StatusOr<RereadAsked> KeyService::RereadSource(std::string_view keyspace) {
  return worker_->RereadSource(keyspace);
}

absl::StatusOr<FollowedRecords> KeyService::FollowSource(const Registry::SourceMove& move, uint64_t opening,
                                                         absl::Span<const ConsentRecord> records, bool mayLeaveOut) {
  if (records.size() > kMostConsentRecords) {
    return absl::InvalidArgumentError(StrCat("at most ", kMostConsentRecords, " records are followed at once"));
  }
  return worker_->FollowSource(move, opening, records, mayLeaveOut);
}

absl::StatusOr<KeyService::Epochs> KeyService::ListEpochs(bool withKeys) { return worker_->ListEpochs(withKeys); }
absl::StatusOr<int64_t> KeyService::TurnEpochs() { return worker_->TurnEpochs(); }
KeyService::EpochNow KeyService::epochNow() const { return worker_->epochNow(); }

absl::StatusOr<int64_t> KeyService::ReadLastErasure() { return worker_->ReadLastErasure(); }

absl::StatusOr<KeyService::AgentsRead> KeyService::ReadAgents() { return worker_->ReadAgents(); }

absl::Status KeyService::health() const { return worker_->health(); }
std::vector<SourceState> KeyService::sourceStates() const { return worker_->sourceStates(); }

void KeyService::Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
  worker_->Fetch(std::move(misses), workload, std::move(done));
}

void KeyService::TryUnwrap(absl::AnyInvocable<void(absl::Status)> done) { worker_->TryUnwrap(std::move(done)); }

std::string KeyService::registryId() const {
  const RegistryId& id = worker_->self().registry;
  return absl::BytesToHexString({reinterpret_cast<const char*>(id.data()), id.size()});
}

const std::string& KeyService::agentName() const { return worker_->self().agent; }

crypto::KeyIdMask KeyService::NewMask() const { return crypto::KeyIdMask(worker_->secret()); }

RootKey::Stats KeyService::rootKeyStats() const { return worker_->rootKeyStats(); }

const KeyServiceOptions& KeyService::options() const { return worker_->options(); }
const Revocations& KeyService::revocations() const { return worker_->revocations(); }

}  // namespace kveil::keys
