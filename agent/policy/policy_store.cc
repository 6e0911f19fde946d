// Holds the policy in force, and a thread that reads the folder again when it changes.
#include "policy/policy_store.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"

#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "bundle/accepted_version.h"
#include "config/folder_watch.h"
#include "policy/policy_advice.h"

namespace kveil::policy {
namespace {

// A folder that never becomes quiet is read all the same after this many times `quiet`.
constexpr int kMostQuietPeriods = 20;
// A folder that changes while it is read is read again, this many times in all.
constexpr int kMostReads = 5;

// A protection that ends is worth a line each: it may be what was meant, or a file lost on the way here.
void LogEndedProtection(const Policy& before, const Policy& after) {
  using Selector = std::pair<SelectorKind, std::string_view>;
  absl::flat_hash_set<Selector> kept;
  for (const TopicPolicy& topic : after.topics()) kept.emplace(topic.kind, topic.selector);
  for (const TopicPolicy& topic : before.topics()) {
    if (!kept.contains(Selector(topic.kind, topic.selector))) {
      const bool isOfUnselected = topic.kind == SelectorKind::kUnselected;
      log::Warning("policy.ended",
                   {{"selector", isOfUnselected ? "unselected" : topic.selector}, {"file", topic.file}});
    }
  }
  if (before.unselected() == Unselected::kRefuse && after.unselected() == Unselected::kPass) {
    log::Warning("policy.ended", {{"selector", "unselected"}});
  }
}

// Whether the folder has to change before another reading may end better. Whatever else went wrong, such as a disk that
// was full, passes without a trace in the folder.
bool IsOfTheFolder(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status) || absl::IsNotFound(status) ||
         absl::IsPermissionDenied(status);
}

}  // namespace

struct PolicyStore::State {
  State(std::string folder, Options options, config::FolderWatch watch)
      : folder(std::move(folder)),
        options(std::move(options)),
        watch(std::move(watch)),
        accepted(this->options.trust.value_or(Trust()).accepted, this->options.trust.value_or(Trust()).minimumVersion) {
  }

  // Of the folder, and of the keys: what one of them has signed may count no more when it is another.
  std::string Fingerprint() const {
    std::string files = config::FolderFingerprint(folder);
    if (!options.trust.has_value()) return files;
    for (const std::string& key : options.trust->keys) files += config::FileFingerprint(key);
    return files;
  }

  // What is trusted.
  absl::StatusOr<std::shared_ptr<const Policy>> ReadOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loading)
      ABSL_LOCKS_EXCLUDED(mutex) {
    if (!options.trust.has_value()) return Policy::Load({folder});
    const std::shared_ptr<const Policy> before = Current();
    ASSIGN_OR_RETURN(SignedPolicies loaded, LoadSigned(folder, options.trust->keys, accepted, before.get()));
    return std::move(loaded.policy);
  }

  std::shared_ptr<const Policy> Current() const ABSL_LOCKS_EXCLUDED(mutex) {
    const MutexLock lock(mutex);
    return current;
  }

  std::string AcceptedFingerprint() const {
    return options.trust.has_value() ? config::FileFingerprint(options.trust->accepted) : "";
  }

  // Of files that were all there at one time: what was read before a change and what was read after it may not fit.
  absl::StatusOr<std::shared_ptr<const Policy>> Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loading)
      ABSL_LOCKS_EXCLUDED(mutex) {
    for (int reads = 0; reads < kMostReads; ++reads) {
      const std::string before = Fingerprint();
      {
        const MutexLock lock(mutex);
        fingerprint = before;
      }
      absl::StatusOr<std::shared_ptr<const Policy>> loaded = ReadOnce();
      if (options.read) options.read();
      if (Fingerprint() == before) return loaded;
    }
    return absl::UnavailableError(StrCat(folder, ": changes again and again while it is read"));
  }

  // Before the policies are in force: after a crash, older ones are not accepted again.
  absl::Status Remember(const Policy& policy) ABSL_EXCLUSIVE_LOCKS_REQUIRED(loading) ABSL_LOCKS_EXCLUDED(mutex) {
    if (!options.trust.has_value()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const bool isFirst, accepted.Remember(policy.version(), policy.digest()));
    if (isFirst) {
      // Right on a new node; otherwise somebody has removed the file, and older policies could have come.
      log::Warning("policy.firstVersion", {{"version", policy.version()}, {"file", options.trust->accepted}});
    }
    const std::string now = AcceptedFingerprint();
    const MutexLock lock(mutex);
    acceptedFingerprint = now;
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<const Policy>> ReadAndRemember() ABSL_EXCLUSIVE_LOCKS_REQUIRED(loading)
      ABSL_LOCKS_EXCLUDED(mutex) {
    // Before it is read: whoever mends the file meanwhile is not to be missed.
    const std::string acceptedBefore = AcceptedFingerprint();
    {
      const MutexLock lock(mutex);
      acceptedFingerprint = acceptedBefore;
    }
    ASSIGN_OR_RETURN(std::shared_ptr<const Policy> loaded, Read());
    if (options.fits) RETURN_IF_ERROR(options.fits(*loaded));
    RETURN_IF_ERROR(Remember(*loaded));
    return loaded;
  }

  absl::Status Refuse(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex) {
    const MutexLock lock(mutex);
    lastError = why;
    triesAgain = !IsOfTheFolder(why);
    log::Error("policy.refused", {{"error", why}, {"kept", generation.load()}});
    return why;
  }

  // Whether these very files are in force. If so, whatever was wrong is over, and nobody has to judge anything again.
  bool IsInForce(const Policy& policy) ABSL_LOCKS_EXCLUDED(mutex) {
    const MutexLock lock(mutex);
    if (current == nullptr || current->digest() != policy.digest() || current->version() != policy.version()) {
      return false;
    }
    if (!lastError.ok()) log::Info("policy.accepted", {{"generation", generation.load()}, {"digest", policy.digest()}});
    lastError = absl::OkStatus();
    triesAgain = false;
    return true;
  }

  // Reads the folder and puts the policy in force, or keeps the old one.
  absl::Status Load() ABSL_LOCKS_EXCLUDED(loading, mutex) {
    const MutexLock oneAtATime(loading);
    absl::StatusOr<std::shared_ptr<const Policy>> loaded = ReadAndRemember();
    if (!loaded.ok()) return Refuse(loaded.status());
    const std::shared_ptr<const Policy> after = *std::move(loaded);
    if (IsInForce(*after)) return absl::OkStatus();
    const std::vector<std::string> advices = AdviceOn(*after);
    std::shared_ptr<const Policy> before = after;
    uint64_t now = 0;
    {
      // Every frame may wait for this lock: what is large is made before it, and freed behind it.
      const MutexLock lock(mutex);
      lastError = absl::OkStatus();
      triesAgain = false;
      current.swap(before);
      now = ++generation;
    }
    if (before != nullptr) LogEndedProtection(*before, *after);
    for (const std::string& advice : advices) log::Warning("policy.advice", {{"advice", advice}});
    log::Info("policy.loaded", {{"files", after->fileCount()},
                                {"topics", after->size()},
                                {"generation", now},
                                {"digest", after->digest()},
                                {"version", after->version()}});
    return absl::OkStatus();
  }

  absl::Status Reload() {
    absl::Status status = Load();
    if (options.reloaded) options.reloaded(status);
    return status;
  }

  bool LooksChanged() {
    const std::string now = Fingerprint();
    const std::string acceptedNow = AcceptedFingerprint();
    const MutexLock lock(mutex);
    return triesAgain || now != fingerprint || acceptedNow != acceptedFingerprint;
  }

  // Waits until nothing changed for a while. False when the store stops.
  bool AwaitQuiet() {
    for (int period = 0; period < kMostQuietPeriods; ++period) {
      const config::FolderWatch::Event event = watch.Wait(options.quiet);
      if (event == config::FolderWatch::Event::kStopped) return false;
      if (event == config::FolderWatch::Event::kTimeout) break;
    }
    return true;
  }

  void Watch() {
    while (true) {
      const config::FolderWatch::Event event = watch.Wait(options.look);
      if (event == config::FolderWatch::Event::kStopped) return;
      if (event == config::FolderWatch::Event::kTimeout) {
        watch.Rearm();
        if (!LooksChanged()) continue;
      }
      if (!AwaitQuiet()) return;
      watch.Rearm();
      Reload().IgnoreError();  // logged, and kept as lastError
    }
  }

  const std::string folder;
  const Options options;
  config::FolderWatch watch;
  std::thread thread;

  Mutex loading;  // taken before mutex
  bundle::AcceptedVersion accepted ABSL_GUARDED_BY(loading);
  mutable Mutex mutex;
  std::shared_ptr<const Policy> current ABSL_GUARDED_BY(mutex);
  absl::Status lastError ABSL_GUARDED_BY(mutex);
  bool triesAgain ABSL_GUARDED_BY(mutex) = false;  // at the next look, whatever the files look like
  std::string fingerprint ABSL_GUARDED_BY(mutex);
  std::string acceptedFingerprint ABSL_GUARDED_BY(mutex);  // as this left it: another is by who mends it
  std::atomic<uint64_t> generation{0};
};

PolicyStore::PolicyStore(std::unique_ptr<State> state) : state_(std::move(state)) {}

absl::StatusOr<std::unique_ptr<PolicyStore>> PolicyStore::Open(std::string folder, Options options) {
  absl::StatusOr<config::FolderWatch> watch = config::FolderWatch::Open(folder);
  if (!watch.ok()) return watch.status();
  auto state = std::make_unique<State>(std::move(folder), std::move(options), *std::move(watch));
  if (absl::Status status = state->Load(); !status.ok()) return status;
  state->thread = std::thread([raw = state.get()] { raw->Watch(); });
  return std::unique_ptr<PolicyStore>(new PolicyStore(std::move(state)));
}

PolicyStore::~PolicyStore() {
  state_->watch.Stop();
  state_->thread.join();
}

std::shared_ptr<const Policy> PolicyStore::Current() const { return state_->Current(); }

uint64_t PolicyStore::generation() const { return state_->generation.load(std::memory_order_acquire); }

absl::Status PolicyStore::Reload() { return state_->Reload(); }

absl::Status PolicyStore::lastError() const {
  const MutexLock lock(state_->mutex);
  return state_->lastError;
}

}  // namespace kveil::policy
