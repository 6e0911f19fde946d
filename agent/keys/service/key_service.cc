// The thread behind KeyService. Questions are answered in turns of several, so that many new keys cost one sync of the
// disk. A turn is short: whoever comes meanwhile, with a question or an erasure, waits for one of them at most.
#include "keys/service/key_service.h"

#include <condition_variable>
#include <deque>
#include <future>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/text.h"
#include "keys/service/fair_queue.h"
#include "keys/service/keyring.h"
#include "keys/service/revocations.h"
#include "keys/service/service_health.h"

namespace kveil::keys {
namespace {

using RealClock = std::chrono::steady_clock;

// How often the thread looks for erasures by other processes, checks the root key, and tries whether what failed works
// again.
constexpr std::chrono::milliseconds kTick{500};
// A look must not make questions wait for long. A registry that is a network away needs some time to answer.
constexpr std::chrono::milliseconds kTickTimeout{200};
// Of a turn. It ends with the question that reaches either.
constexpr size_t kMostKeysOfATurn = 512;
constexpr size_t kMostQuestionsOfATurn = 64;
// How long whoever tries the keys waits for a remote root key. Then the last trial counts.
constexpr std::chrono::seconds kTrialPatience{2};
// How long health() tells of what happened once.
constexpr std::chrono::seconds kShow{60};

}  // namespace

class KeyService::Worker {
 public:
  Worker(KeyServiceOptions options, std::unique_ptr<Keyring> keyring)
      : options_(std::move(options)), keyring_(std::move(keyring)), secret_(keyring_->registrySecret().Copy()) {
    knownOpenings_ = keyring_->openings();
    thread_ = std::thread([this] { Run(); });
  }

  ~Worker() {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
    {
      const MutexLock lock(mutex_);
      questions_.Push(workload, {{std::move(misses), std::string(workload), {}}, std::move(done)});
    }
    wake_.notify_one();
  }

  absl::StatusOr<EraseResult> Erase(std::optional<std::string_view> keyspace, std::string_view user) {
    std::promise<absl::StatusOr<EraseResult>> promise;
    RunSoon([&] { promise.set_value(EraseNow(keyspace, user)); });
    return promise.get_future().get();
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

  const KeyServiceOptions& options() const { return options_; }
  const Revocations& revocations() const { return revocations_; }
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

  void RunSoon(absl::AnyInvocable<void()> task) {
    {
      const MutexLock lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }
  void Run();
  std::vector<Question> NextTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Answer(std::vector<Question> group);
  absl::Status ResolveGroup(std::vector<Question>& group, RealClock::time_point deadline);
  absl::StatusOr<EraseResult> EraseNow(std::optional<std::string_view> keyspace, std::string_view user);
  void AnswerTrials(RealClock::time_point now);
  void Tick();
  void PublishErasures();
  bool PurgeErased(RealClock::time_point deadline);
  void NoteReopened();
  void NoteTroubles(const std::vector<Question>& group);

  const KeyServiceOptions options_;
  const std::unique_ptr<Keyring> keyring_;  // the thread's
  const crypto::SecretKey secret_;
  Revocations revocations_;
  uint64_t knownOpenings_ = 0;
  bool mustPurge_ = true;  // an erased key may still be in the files: of this process or one that was killed
  RealClock::time_point reopenNotBefore_;
  std::vector<Trial> trials_;  // that wait for the root key
  ServiceHealth health_;

  Mutex mutex_;
  std::condition_variable_any wake_;
  FairQueue<Question> questions_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);  // erasures above all
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

void KeyService::Worker::Run() {
  RealClock::time_point nextTick = RealClock::now() + kTick;
  for (;;) {
    absl::AnyInvocable<void()> task;
    std::vector<Question> group;
    {
      const MutexLock lock(mutex_);
      while (!stopping_ && questions_.empty() && tasks_.empty()) {
        if (wake_.wait_until(mutex_, nextTick) == std::cv_status::timeout) break;
      }
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
    if (RealClock::now() >= nextTick) {
      Tick();
      nextTick = RealClock::now() + kTick;
    }
  }
  AnswerTrials(RealClock::time_point::max());
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

absl::StatusOr<EraseResult> KeyService::Worker::EraseNow(std::optional<std::string_view> keyspace,
                                                         std::string_view user) {
  const RealClock::time_point deadline = RealClock::now() + options_.registryTimeout;
  keyring_->SetDeadline(deadline);
  absl::StatusOr<EraseResult> result = keyring_->Erase(keyspace, user);
  NoteReopened();
  if (absl::IsUnavailable(result.status())) health_.Set(Part::kRegistry, result.status());
  if (!result.ok()) return result;
  mustPurge_ = true;
  PublishErasures();
  result->filesClean = PurgeErased(deadline);
  log::Info("keys.erased", {{"keys", result->keyCount}, {"keyspaces", result->keyspaces.size()}});
  return result;
}

void KeyService::Worker::PublishErasures() {
  absl::StatusOr<std::vector<crypto::KeyId>> ids = keyring_->PollErasures();
  NoteReopened();
  if (!ids.ok()) {
    // They are erased all the same, and no cache may go on with them.
    revocations_.RevokeAll();
  } else if (!ids->empty()) {
    revocations_.Revoke(*ids);
  }
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
  absl::StatusOr<std::vector<crypto::KeyId>> ids = keyring_->PollErasures();
  NoteReopened();
  if (ids.ok() && !ids->empty()) revocations_.Revoke(*ids);
  if (!ids.ok()) {
    health_.Set(Part::kRegistry, ids.status());
  } else if (!health_.Of(Part::kRegistry).ok()) {
    health_.Set(Part::kRegistry, keyring_->CheckWritable());
  }
  // Whether a refusal to unwrap is over, nothing but unwrapping shows.
  if (!rootKey.ok() && keyring_->root().isRemote()) (void)keyring_->BeginTrial();
  if (mustPurge_) PurgeErased(deadline);
  keyring_->DropExpired();
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
  return worker_->Erase(keyspace, user);
}

absl::Status KeyService::health() const { return worker_->health(); }

void KeyService::Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
  worker_->Fetch(std::move(misses), workload, std::move(done));
}

void KeyService::TryUnwrap(absl::AnyInvocable<void(absl::Status)> done) { worker_->TryUnwrap(std::move(done)); }

crypto::KeyIdMask KeyService::NewMask() const { return crypto::KeyIdMask(worker_->secret()); }

RootKey::Stats KeyService::rootKeyStats() const { return worker_->rootKeyStats(); }

const KeyServiceOptions& KeyService::options() const { return worker_->options(); }
const Revocations& KeyService::revocations() const { return worker_->revocations(); }

}  // namespace kveil::keys
