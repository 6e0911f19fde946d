// Writes each minute what the workers have counted.
#pragma once

#include <condition_variable>
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
  };
  static constexpr size_t kMostPending = 8 << 20;  // bytes of lines

  // Begins at once. `tallies` outlive it.
  Recorder(Options options, std::vector<Tally*> tallies, absl::Time now = absl::Now());
  ~Recorder() { Stop(); }

  // Any thread. Writes what was counted until now, at most once a second. An error: it cannot be written, and will be.
  absl::Status Record(absl::Time now = absl::Now());
  // Writes it for the last time, and that nothing is missing. Nothing is counted afterwards.
  void Stop();

  // What keeps it from writing, or what was not as it was written.
  absl::Status Health() const;
  // What was not told apart in the last minute that was written, as there was too much of it, and whether lines were
  // removed before their time; empty: nothing.
  std::string Note() const;
  const std::string& folder() const { return options_.folder; }

  // Has it call Record at each full minute, on a thread of its own.
  void Start();

 private:
  void Collect() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Turns what was collected into lines. False: pseudonyms cannot be had now, and it is not too late for them yet.
  bool MakeLines(absl::Time now, bool isLast) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Keep(std::string line, uint64_t records, const TimeSpan& span) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OpenTrail() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Write(absl::Time now, bool isLast) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordLocked(absl::Time now, bool isLast) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();

  const Options options_;
  const std::vector<Tally*> tallies_;
  const absl::Time startedAt_;

  mutable Mutex mutex_;
  std::unique_ptr<Trail> trail_ ABSL_GUARDED_BY(mutex_);  // nullptr: it could not be opened yet
  absl::Time from_ ABSL_GUARDED_BY(mutex_);               // since when `collected_` was counted
  AllCounted collected_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> pending_ ABSL_GUARDED_BY(mutex_);  // lines
  size_t pendingBytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<Lost> lost_ ABSL_GUARDED_BY(mutex_);
  bool isStopped_ ABSL_GUARDED_BY(mutex_) = false;

  mutable Mutex healthMutex_;  // so that whoever asks does not wait for the disk
  absl::Status health_ ABSL_GUARDED_BY(healthMutex_);
  std::string note_ ABSL_GUARDED_BY(healthMutex_);
  std::string fullNote_ ABSL_GUARDED_BY(healthMutex_);

  Mutex endMutex_;
  std::condition_variable_any ended_;
  bool isEnding_ ABSL_GUARDED_BY(endMutex_) = false;
  std::thread thread_;
};

}  // namespace kveil::audit
