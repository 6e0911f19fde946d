// Writes each minute what the workers have counted.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "audit/lines.h"
#include "audit/tally.h"
#include "audit/trail.h"
#include "base/mutex.h"

namespace kveil::audit {

// No worker ever waits for it. While the trail cannot be written, it keeps what was counted, up to kMostPending, and
// then says how much was lost.
class Recorder {
 public:
  // The pseudonyms of the users whose keys these are, in the same order; nullopt: the key is not known. An error: they
  // cannot be had now.
  using PseudonymsOf =
      std::function<absl::StatusOr<std::vector<std::optional<std::string>>>(absl::Span<const crypto::KeyId>)>;
  struct Options {
    std::string folder;
    Trail::Limits limits;
    std::string agent;  // its name, for the trail
    std::string version;
    PseudonymsOf pseudonymsOf;
    // What tells the registry apart whose pseudonyms these are.
    std::function<absl::StatusOr<std::string>()> registryOf = [] { return std::string(); };
    std::function<absl::Time()> wallClock = [] { return absl::Now(); };
    std::function<absl::Duration()> steadyClock = [] {
      return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
    };
  };
  static constexpr size_t kMostPending = 8 << 20;  // bytes of lines
  // By how much the clock may go wrong from one minute to the next without a word in the trail.
  static constexpr absl::Duration kMostClockStep = absl::Seconds(10);

  // Begins at once. `tallies` outlive it.
  Recorder(Options options, std::vector<Tally*> tallies);
  ~Recorder() { Stop(); }

  // Any thread. Writes what was counted until now, at most once a second. An error: it cannot be written, and will be.
  absl::Status Record();
  // Writes it for the last time, and that nothing is missing. Nothing is counted afterwards. Asks the registry for some
  // seconds at most: records whose users have no pseudonym by then are counted for nobody, and it says so.
  void Stop();

  // What keeps it from writing, what was not as it was written, or that lines were removed before their time.
  absl::Status Health() const;
  // What was not told apart in the last minute that was written, as there was too much of it, and what was lost in the
  // last day; empty: nothing.
  std::string Note() const;
  const std::string& folder() const { return options_.folder; }

  // Has it call Record at each full minute, on a thread of its own.
  void Start();

 private:
  void Collect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Lines that are written together, or lost together.
  struct Unit {
    std::vector<std::string> lines;
    TimeSpan span;
    uint64_t records = 0;
    size_t bytes() const;
  };
  struct Pseudonyms {
    absl::flat_hash_map<crypto::KeyId, std::string> byKey;
    bool areAll = true;    // that can be had
    std::string registry;  // whose they are
  };
  Pseudonyms FindPseudonyms() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Turns what was collected into lines. False: pseudonyms cannot be had now, and it is not too late for them yet.
  bool MakeLines(const TimeSpan& span, bool mayWait) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Keep(const TimeSpan& span, const Use& use, const Counted& counted,
            const absl::flat_hash_map<std::string, uint64_t>& users, const std::string& registry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OpenTrail(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Write(absl::Time now, bool isLast) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Drops what there is no room to keep until it can be written.
  void DropExcess() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordLocked(bool isLast) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellHealth(absl::Status status, absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  bool isEnding() const;

  const Options options_;
  const std::vector<Tally*> tallies_;
  const absl::Time startedAt_;

  mutable Mutex mutex_;
  std::unique_ptr<Trail> trail_ ABSL_GUARDED_BY(mutex_);  // nullptr: it could not be opened yet
  absl::Time from_ ABSL_GUARDED_BY(mutex_);               // since when `collected_` was counted
  absl::Duration steadyFrom_ ABSL_GUARDED_BY(mutex_);     // the same by the steady clock
  absl::Duration appendedAt_ ABSL_GUARDED_BY(mutex_);     // by the steady clock
  AllCounted collected_ ABSL_GUARDED_BY(mutex_);
  std::deque<Unit> pending_ ABSL_GUARDED_BY(mutex_);
  std::optional<Lost> lost_ ABSL_GUARDED_BY(mutex_);  // that the trail does not say yet
  std::string lostText_ ABSL_GUARDED_BY(mutex_);      // what was lost last
  absl::Duration lostAt_ ABSL_GUARDED_BY(mutex_);     // by the steady clock
  bool isStopped_ ABSL_GUARDED_BY(mutex_) = false;

  mutable Mutex healthMutex_;  // so that whoever asks does not wait for the disk
  absl::Status health_ ABSL_GUARDED_BY(healthMutex_);
  std::string note_ ABSL_GUARDED_BY(healthMutex_);
  std::string lostNote_ ABSL_GUARDED_BY(healthMutex_);

  mutable Mutex endMutex_;
  std::condition_variable_any ended_;
  bool isEnding_ ABSL_GUARDED_BY(endMutex_) = false;
  std::thread thread_;
};

}  // namespace kveil::audit
