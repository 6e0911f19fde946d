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
#include "bundle/signature.h"
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

}  // namespace

struct PolicyStore::State {
  State(std::string folder, Options options, config::FolderWatch watch)
      : folder(std::move(folder)),
        options(std::move(options)),
        accepted(this->options.trust.value_or(Trust()).accepted, this->options.trust.value_or(Trust()).minimumVersion),
        watch(std::move(watch)) {}

  // Of the folder, and of the keys: what one of them has signed may count no more when it is another.
  std::string Fingerprint() const {
    std::string files = config::FolderFingerprint(folder);
    if (!options.trust.has_value()) return files;
    for (const std::string& key : options.trust->keys) files += config::FileFingerprint(key);
    return files;
  }

  // What is trusted.
  absl::StatusOr<std::shared_ptr<const Policy>> ReadOnce() const {
    if (!options.trust.has_value()) return Policy::Load({folder});
    ASSIGN_OR_RETURN(const bundle::Manifest manifest, bundle::ReadSigned(folder, options.trust->keys));
    RETURN_IF_ERROR(accepted.Check(manifest.version, manifest.Digest()));
    return Policy::LoadSigned(folder, manifest);
  }

  // Of files that were all there at one time: what was read before a change and what was read after it may not fit.
  absl::StatusOr<std::shared_ptr<const Policy>> Read() ABSL_LOCKS_EXCLUDED(mutex) {
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

  // Reads the folder and puts the policy in force, or keeps the old one.
  absl::Status Load() ABSL_LOCKS_EXCLUDED(loading, mutex) {
    const MutexLock oneAtATime(loading);
    absl::StatusOr<std::shared_ptr<const Policy>> loaded = Read();
    if (loaded.ok() && options.trust.has_value()) {
      // Before they are in force: after a crash, the older ones are not accepted again.
      if (absl::Status kept = accepted.Remember((*loaded)->version(), (*loaded)->digest()); !kept.ok()) loaded = kept;
    }
    if (options.trust.has_value()) {
      const std::string now = config::FileFingerprint(options.trust->accepted);
      const MutexLock lock(mutex);
      acceptedFingerprint = now;
    }
    if (!loaded.ok()) {
      const MutexLock lock(mutex);
      lastError = loaded.status();
      log::Error("policy.refused", {{"error", lastError}, {"kept", generation.load()}});
      return lastError;
    }
    const std::shared_ptr<const Policy> after = *std::move(loaded);
    const std::vector<std::string> advices = AdviceOn(*after);
    std::shared_ptr<const Policy> before = after;
    uint64_t now = 0;
    {
      // Every frame may wait for this lock: what is large is made before it, and freed behind it.
      const MutexLock lock(mutex);
      lastError = absl::OkStatus();
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
    const std::string acceptedNow = options.trust.has_value() ? config::FileFingerprint(options.trust->accepted) : "";
    const MutexLock lock(mutex);
    return now != fingerprint || acceptedNow != acceptedFingerprint;
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
  const bundle::AcceptedVersion accepted;
  config::FolderWatch watch;
  std::thread thread;

  Mutex loading;  // taken before mutex
  mutable Mutex mutex;
  std::shared_ptr<const Policy> current ABSL_GUARDED_BY(mutex);
  absl::Status lastError ABSL_GUARDED_BY(mutex);
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

std::shared_ptr<const Policy> PolicyStore::Current() const {
  const MutexLock lock(state_->mutex);
  return state_->current;
}

uint64_t PolicyStore::generation() const { return state_->generation.load(std::memory_order_acquire); }

absl::Status PolicyStore::Reload() { return state_->Reload(); }

absl::Status PolicyStore::lastError() const {
  const MutexLock lock(state_->mutex);
  return state_->lastError;
}

}  // namespace kveil::policy
