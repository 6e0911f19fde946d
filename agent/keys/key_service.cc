// The thread behind KeyService: questions are answered in groups, so that many new keys cost one sync of the disk.
#include "keys/key_service.h"

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/log.h"
#include "base/text.h"
#include "keys/keyring.h"
#include "keys/revocations.h"

namespace kveil::keys {
namespace {

using RealClock = std::chrono::steady_clock;

// How often the thread looks for erasures by other processes, at the root key file, and whether what failed works
// again.
constexpr std::chrono::milliseconds kTick{500};
// A look must not make questions wait for long.
constexpr std::chrono::milliseconds kTickLockTimeout{50};
constexpr size_t kMaxGroup = 64;
constexpr std::chrono::seconds kShowDamage{60};

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
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
    // Closing leaves the log as it is; after an orderly end the registry's file alone is to be the whole registry.
    keyring_->SetLockDeadline(RealClock::now() + kTickLockTimeout);
    (void)keyring_->TruncateLog();
  }

  void Fetch(Misses misses, absl::AnyInvocable<void(FetchResult)> done) {
    {
      std::lock_guard lock(mutex_);
      questions_.push_back({{std::move(misses), {}}, std::move(done), RealClock::now() + options_.registryTimeout});
    }
    wake_.notify_one();
  }

  absl::StatusOr<EraseResult> Erase(std::optional<std::string_view> keyspace, std::string_view user) {
    std::promise<absl::StatusOr<EraseResult>> promise;
    {
      std::lock_guard lock(mutex_);
      erasures_.push_back([&] { promise.set_value(EraseNow(keyspace, user)); });
    }
    wake_.notify_one();
    return promise.get_future().get();
  }

  absl::Status health() const {
    std::lock_guard lock(healthMutex_);
    for (const absl::Status* status : {&rootKeyStatus_, &registryStatus_, &damageStatus_, &logStatus_}) {
      if (!status->ok()) return *status;
    }
    return absl::OkStatus();
  }

  const KeyServiceOptions& options() const { return options_; }
  const Revocations& revocations() const { return revocations_; }
  const crypto::SecretKey& secret() const { return secret_; }

 private:
  struct Question {
    Keyring::Lookup lookup;
    absl::AnyInvocable<void(FetchResult)> done;
    RealClock::time_point deadline;
  };

  void Run();
  void Answer(std::vector<Question> group);
  absl::Status ResolveGroup(std::vector<Question>& group);
  absl::StatusOr<EraseResult> EraseNow(std::optional<std::string_view> keyspace, std::string_view user);
  void Tick();
  void PublishErasures();
  void CleanLog(RealClock::time_point deadline);
  void NoteReopened();
  void SetHealth(absl::Status& field, const absl::Status& status, const char* event);
  void NoteDamage(const std::vector<Question>& group);

  const KeyServiceOptions options_;
  const std::unique_ptr<Keyring> keyring_;  // the thread's
  const crypto::SecretKey secret_;
  Revocations revocations_;
  uint64_t knownOpenings_ = 0;
  bool logIsDirty_ = true;  // it may still hold an erased key: of this process or one that was killed
  RealClock::time_point damageShownUntil_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Question> questions_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::AnyInvocable<void()>> erasures_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  mutable std::mutex healthMutex_;
  absl::Status rootKeyStatus_ ABSL_GUARDED_BY(healthMutex_);
  absl::Status registryStatus_ ABSL_GUARDED_BY(healthMutex_);
  absl::Status damageStatus_ ABSL_GUARDED_BY(healthMutex_);
  absl::Status logStatus_ ABSL_GUARDED_BY(healthMutex_);

  std::thread thread_;
};

void KeyService::Worker::Run() {
  RealClock::time_point nextTick = RealClock::now() + kTick;
  for (;;) {
    absl::AnyInvocable<void()> erasure;
    std::vector<Question> group;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_until(lock, nextTick, [this] { return stopping_ || !questions_.empty() || !erasures_.empty(); });
      if (!erasures_.empty()) {
        erasure = std::move(erasures_.front());
        erasures_.pop_front();
      }
      while (!questions_.empty() && group.size() < kMaxGroup) {
        group.push_back(std::move(questions_.front()));
        questions_.pop_front();
      }
      if (stopping_ && !erasure && group.empty()) return;
    }
    if (erasure) erasure();
    if (!group.empty()) Answer(std::move(group));
    if (RealClock::now() >= nextTick) {
      Tick();
      nextTick = RealClock::now() + kTick;
    }
  }
}

void KeyService::Worker::Answer(std::vector<Question> group) {
  const uint64_t generation = revocations_.generation();
  absl::Status status = ResolveGroup(group);
  if (!status.ok() && group.size() > 1) {
    // One damaged row must not fail those who asked for others. The deadline is shared, so this ends as soon.
    status = absl::OkStatus();
    for (Question& question : group) {
      std::vector<Question> one;
      question.lookup.result = {};
      one.push_back(std::move(question));
      status.Update(ResolveGroup(one));
      question = std::move(one.front());
    }
  }
  NoteReopened();
  // Only Tick says that it is well again: a read that works tells nothing about a lock or a full disk.
  if (!status.ok()) SetHealth(registryStatus_, status, "keys.registry");
  NoteDamage(group);
  for (Question& question : group) {
    // From before the read: what is revoked after it, the cache leaves out.
    question.lookup.result.generation = generation;
    question.done(std::move(question.lookup.result));
  }
}

absl::Status KeyService::Worker::ResolveGroup(std::vector<Question>& group) {
  std::vector<Keyring::Lookup*> lookups;
  RealClock::time_point deadline = RealClock::time_point::max();
  for (Question& question : group) {
    lookups.push_back(&question.lookup);
    deadline = std::min(deadline, question.deadline);
  }
  keyring_->SetLockDeadline(deadline);
  return keyring_->Resolve(lookups);
}

absl::StatusOr<EraseResult> KeyService::Worker::EraseNow(std::optional<std::string_view> keyspace,
                                                         std::string_view user) {
  const RealClock::time_point deadline = RealClock::now() + options_.registryTimeout;
  keyring_->SetLockDeadline(deadline);
  absl::StatusOr<EraseResult> result = keyring_->Erase(keyspace, user);
  NoteReopened();
  if (absl::IsUnavailable(result.status())) SetHealth(registryStatus_, result.status(), "keys.registry");
  if (!result.ok()) return result;
  logIsDirty_ = true;
  PublishErasures();
  CleanLog(deadline);
  result->filesClean = !logIsDirty_;
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

void KeyService::Worker::CleanLog(RealClock::time_point deadline) {
  keyring_->SetLockDeadline(deadline);
  absl::Status status = keyring_->TruncateLog();
  logIsDirty_ = !status.ok();
  SetHealth(logStatus_, status, "keys.registry.log");
}

void KeyService::Worker::NoteReopened() {
  if (keyring_->openings() == knownOpenings_) return;
  knownOpenings_ = keyring_->openings();
  revocations_.RevokeAll();
}

void KeyService::Worker::Tick() {
  const RealClock::time_point deadline = RealClock::now() + kTickLockTimeout;
  keyring_->SetLockDeadline(deadline);
  SetHealth(rootKeyStatus_, keyring_->CheckRootKeyFile(), "keys.rootKey");
  bool wasHealthy;
  {
    std::lock_guard lock(healthMutex_);
    wasHealthy = registryStatus_.ok();
    if (RealClock::now() >= damageShownUntil_) damageStatus_ = absl::OkStatus();
  }
  if (!wasHealthy) SetHealth(registryStatus_, keyring_->ProbeWrite(), "keys.registry");
  absl::StatusOr<std::vector<crypto::KeyId>> ids = keyring_->PollErasures();
  NoteReopened();
  if (ids.ok() && !ids->empty()) revocations_.Revoke(*ids);
  if (!ids.ok()) SetHealth(registryStatus_, ids.status(), "keys.registry");
  if (logIsDirty_) CleanLog(deadline);
  keyring_->DropExpired();
}

void KeyService::Worker::SetHealth(absl::Status& field, const absl::Status& status, const char* event) {
  bool changed;
  {
    std::lock_guard lock(healthMutex_);
    changed = field.message() != status.message();
    field = status;
  }
  if (!changed) return;
  if (status.ok()) {
    log::Info(event, {{"state", "well again"}});
  } else {
    log::Error(event, {{"error", status}});
  }
}

void KeyService::Worker::NoteDamage(const std::vector<Question>& group) {
  std::lock_guard lock(healthMutex_);
  for (const Question& question : group) {
    const absl::Status& status = question.lookup.result.status;
    if (status.ok() || status.message() == registryStatus_.message()) continue;
    if (status.message() == rootKeyStatus_.message()) continue;
    damageStatus_ = status;
    damageShownUntil_ = RealClock::now() + kShowDamage;
  }
}

absl::StatusOr<std::unique_ptr<KeyService>> KeyService::Open(KeyServiceOptions options) {
  if (options.cacheTtl < std::chrono::seconds(1)) return absl::InvalidArgumentError("keys.cacheTtl is at least 1s");
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

void KeyService::Fetch(Misses misses, absl::AnyInvocable<void(FetchResult)> done) {
  worker_->Fetch(std::move(misses), std::move(done));
}

crypto::KeyIdMask KeyService::NewMask() const { return crypto::KeyIdMask(worker_->secret()); }

const KeyServiceOptions& KeyService::options() const { return worker_->options(); }
const Revocations& KeyService::revocations() const { return worker_->revocations(); }

}  // namespace kveil::keys
