#include "audit/recorder.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::audit {
namespace {

// How long what was counted waits for pseudonyms.
constexpr absl::Duration kPatience = absl::Minutes(5);
// For how long it is said that lines were removed before their time.
constexpr absl::Duration kTellRemoval = absl::Hours(24);
constexpr char kFullNote[] =
    "the trail is as large as audit.maxSize allows: lines were removed that are younger than audit.keep";
// Whoever asks may ask as often as they like.
constexpr absl::Duration kLeastSpan = absl::Seconds(1);
// Lookups of one call.
constexpr size_t kKeysAtOnce = 512;

std::string Summary(uint64_t others, uint64_t withoutUser) {
  std::string text;
  if (others > 0) {
    text = StrCat("in the last minute some workload read or wrote more topics than are told apart (", others,
                  " records are counted without their topic)");
  }
  if (withoutUser > 0) {
    StrAppend(&text, text.empty() ? "" : "; ", withoutUser,
              " records of the last minute are not counted for their users, as there were too many of them, or their "
              "pseudonyms could not be had");
  }
  return text;
}

}  // namespace

Recorder::Recorder(Options options, std::vector<Tally*> tallies, absl::Time now)
    : options_(std::move(options)), tallies_(std::move(tallies)), startedAt_(now), from_(now) {
  const MutexLock lock(mutex_);
  (void)RecordLocked(now, /*isLast=*/false);  // health says what is wrong
}

void Recorder::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Recorder::Run() {
  for (;;) {
    const absl::Time now = absl::Now();
    const absl::Time next = absl::FromUnixSeconds((absl::ToUnixSeconds(now) / 60 + 1) * 60);
    {
      const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(next - now);
      const MutexLock lock(endMutex_);
      while (!isEnding_ && std::chrono::steady_clock::now() < until) ended_.wait_until(endMutex_, until);
      if (isEnding_) return;
    }
    (void)Record();  // health says what is wrong
  }
}

absl::Status Recorder::Record(absl::Time now) {
  const MutexLock lock(mutex_);
  if (isStopped_) return absl::OkStatus();
  if (now >= from_ && now - from_ < kLeastSpan) return Health();
  return RecordLocked(now, /*isLast=*/false);
}

void Recorder::Stop() {
  {
    const MutexLock lock(endMutex_);
    isEnding_ = true;
    ended_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  const MutexLock lock(mutex_);
  if (std::exchange(isStopped_, true)) return;
  const absl::Status written = RecordLocked(absl::Now(), /*isLast=*/true);
  if (!written.ok() && !absl::IsDataLoss(written)) log::Error("audit.lost", {{"error", written}});
}

absl::Status Recorder::Health() const {
  const MutexLock lock(healthMutex_);
  return health_;
}

std::string Recorder::Note() const {
  const MutexLock lock(healthMutex_);
  return note_.empty() || fullNote_.empty() ? note_ + fullNote_ : StrCat(note_, "; ", fullNote_);
}

absl::Status Recorder::RecordLocked(absl::Time now, bool isLast) {
  now = std::max(now, from_);  // the clock may have been set back
  Collect();
  absl::Status status;
  if (MakeLines(now, isLast)) status = Write(now, isLast);
  if (status.ok() && trail_ != nullptr && !trail_->damage().empty()) {
    status = absl::DataLossError(StrCat("the audit trail is not as it was written: ", trail_->damage()));
  }
  const bool isFull = trail_ != nullptr && now - trail_->removedEarly() < kTellRemoval;
  const MutexLock health(healthMutex_);
  health_ = status;
  fullNote_ = isFull ? kFullNote : "";
  return status;
}

void Recorder::Collect() {
  for (Tally* const tally : tallies_) {
    AllCounted taken = tally->Take();
    for (auto& [use, counted] : taken) {
      const auto [known, isNew] = collected_.try_emplace(use, Counted());
      Counted& sum = known->second;
      if (isNew) {
        sum = std::move(counted);
        continue;
      }
      sum.counts.Add(counted.counts);
      sum.isByUser |= counted.isByUser;
      for (const auto& [user, count] : counted.users) sum.users[user] += count;
    }
  }
}

bool Recorder::MakeLines(absl::Time now, bool isLast) {
  std::vector<crypto::KeyId> keys;
  for (const auto& [use, counted] : collected_) {
    for (const auto& [key, count] : counted.users) keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  absl::flat_hash_map<crypto::KeyId, std::string> pseudonyms;
  for (size_t i = 0; i < keys.size(); i += kKeysAtOnce) {
    const auto some = absl::MakeConstSpan(keys).subspan(i, kKeysAtOnce);
    const auto found = options_.pseudonymsOf(some);
    if (!found.ok()) {
      if (!isLast && now - from_ < kPatience && keys.size() < Tally::kMostUsers) return false;
      break;  // those that are left are counted without their users
    }
    for (size_t k = 0; k < some.size() && k < found->size(); ++k) {
      if ((*found)[k].has_value()) pseudonyms.emplace(some[k], *(*found)[k]);
    }
  }
  const TimeSpan span{from_, now};
  uint64_t others = 0;
  uint64_t withoutUser = 0;
  for (auto& [use, counted] : collected_) {
    absl::flat_hash_map<std::string, uint64_t> byPseudonym;  // a user may have had several keys
    for (const auto& [key, count] : counted.users) {
      const auto found = pseudonyms.find(key);
      if (found == pseudonyms.end()) {
        counted.counts.withoutUser += count;
      } else {
        byPseudonym[found->second] += count;
      }
    }
    std::vector<std::pair<std::string, uint64_t>> users(byPseudonym.begin(), byPseudonym.end());
    std::sort(users.begin(), users.end());
    if (use.topic.empty()) others += counted.counts.records;
    withoutUser += counted.counts.withoutUser;
    Keep(LineOfUse(span, use, counted), counted.counts.records, span);
    for (std::string& line : LinesOfUsers(span, use, counted, users)) Keep(std::move(line), 0, span);
  }
  collected_.clear();
  from_ = now;
  const MutexLock health(healthMutex_);
  note_ = Summary(others, withoutUser);
  return true;
}

void Recorder::Keep(std::string line, uint64_t records, const TimeSpan& span) {
  if (pendingBytes_ + line.size() <= kMostPending) {
    pendingBytes_ += line.size();
    pending_.push_back(std::move(line));
    return;
  }
  if (!lost_.has_value()) lost_ = Lost{.from = span.from, .to = span.to};
  lost_->to = span.to;
  ++lost_->lines;
  lost_->records += records;
}

absl::Status Recorder::OpenTrail() {
  if (trail_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(trail_, Trail::Open(options_.folder, options_.limits));
  std::optional<absl::Time> unknownSince;
  if (trail_->head().last > 0 && KindOf(trail_->lastLine()) != kKindOfEnd) {
    absl::Time signedUntil;
    std::string error;
    unknownSince = absl::ParseTime(absl::RFC3339_full, trail_->head().time, &signedUntil, &error)
                       ? std::min(signedUntil, startedAt_)
                       : absl::UnixEpoch();
  }
  pending_.insert(pending_.begin(), LineOfStart(startedAt_, options_.agent, options_.version, unknownSince));
  return absl::OkStatus();
}

// What could not be written stays, and is written when it can be.
absl::Status Recorder::Write(absl::Time now, bool isLast) {
  RETURN_IF_ERROR(OpenTrail());
  std::vector<std::string> lines = pending_;
  if (lost_.has_value()) lines.push_back(LineOfLost(*lost_));
  if (isLast) lines.push_back(LineOfEnd(now));
  RETURN_IF_ERROR(trail_->Append(lines, now));
  pending_.clear();
  pendingBytes_ = 0;
  lost_.reset();
  return absl::OkStatus();
}

}  // namespace kveil::audit
