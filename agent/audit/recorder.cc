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
// For how long it is said that lines were removed before their time, or lost.
constexpr absl::Duration kTellLoss = absl::Hours(24);
// Bytes of lines that are written at once, about.
constexpr size_t kPiece = 1 << 20;
// Whoever asks may ask as often as they like.
constexpr absl::Duration kLeastSpan = absl::Seconds(1);
// Lookups of one call.
constexpr size_t kKeysAtOnce = 512;
// How long the registry is asked in all when the agent is to end. Each call has a limit of its own.
constexpr absl::Duration kMostAskingAtEnd = absl::Seconds(3);

// Of the last minute.
struct Excess {
  uint64_t records = 0;      // that are counted without their topic
  uint64_t denials = 0;      // the same, or refused
  uint64_t withoutUser = 0;  // records
};

std::string TextOf(const Excess& excess) {
  std::string text;
  if (excess.records > 0) {
    text = StrCat("in the last minute some workload read or wrote more topics than are told apart (", excess.records,
                  " records are counted without their topic)");
  }
  if (excess.denials > 0) {
    StrAppend(&text, text.empty() ? "" : "; ",
              "in the last minute some workload was denied more topics than are told apart (", excess.denials,
              " denials and refused records are counted without their topic)");
  }
  if (excess.withoutUser > 0) {
    StrAppend(&text, text.empty() ? "" : "; ", excess.withoutUser,
              " records of the last minute are not counted for their users, as there were too many of them, or their "
              "pseudonyms could not be had");
  }
  return text;
}

}  // namespace

Recorder::Recorder(Options options, std::vector<Tally*> tallies)
    : options_(std::move(options)),
      tallies_(std::move(tallies)),
      startedAt_(options_.wallClock()),
      from_(startedAt_),
      steadyFrom_(options_.steadyClock()),
      appendedAt_(steadyFrom_) {
  const MutexLock lock(mutex_);
  (void)RecordLocked(/*isLast=*/false);  // health says what is wrong
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

absl::Status Recorder::Record() {
  const MutexLock lock(mutex_);
  if (isStopped_) return absl::OkStatus();
  if (options_.steadyClock() - steadyFrom_ < kLeastSpan) return Health();
  return RecordLocked(/*isLast=*/false);
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
  const absl::Status written = RecordLocked(/*isLast=*/true);
  if (!pending_.empty() || lost_.has_value()) log::Error("audit.lost", {{"error", written}});
}

bool Recorder::isEnding() const {
  const MutexLock lock(endMutex_);
  return isEnding_;
}

absl::Status Recorder::Health() const {
  const MutexLock lock(healthMutex_);
  return health_;
}

std::string Recorder::Note() const {
  const MutexLock lock(healthMutex_);
  return note_.empty() || lostNote_.empty() ? note_ + lostNote_ : StrCat(note_, "; ", lostNote_);
}

absl::Status Recorder::RecordLocked(bool isLast) {
  const absl::Time begun = options_.wallClock();
  const absl::Duration steady = options_.steadyClock();
  Collect();
  absl::Time now = options_.wallClock();
  // What was counted has the time of the clock before it was set: it goes on as the steady one does.
  const absl::Time expected = from_ + (steady - steadyFrom_);
  const bool isSet = absl::AbsDuration(begun - expected) > kMostClockStep;
  const TimeSpan span{from_, isSet ? expected : std::max(now, from_)};
  const bool mayWait = !isLast && !isSet && steady - steadyFrom_ < kPatience;
  if (!MakeLines(span, mayWait)) {
    const absl::Status status = absl::UnavailableError(
        "the pseudonyms of users cannot be had from the registry: what was counted waits for them");
    TellHealth(status, now);
    return status;
  }
  if (isSet) pending_.push_back({.lines = {LineOfClock(expected, begun)}, .span = {begun, begun}});
  if (isSet) now = begun;
  from_ = begun;
  steadyFrom_ = steady;
  absl::Status status = Write(now, isLast);
  if (!status.ok()) DropExcess();
  TellHealth(status, now);
  return Health();
}

void Recorder::TellHealth(absl::Status status, absl::Time now) {
  if (status.ok() && trail_ != nullptr && !trail_->damage().empty()) {
    status = absl::DataLossError(StrCat("the audit trail is not as it was written: ", trail_->damage()));
  }
  if (status.ok() && trail_ != nullptr && now - trail_->removedEarly() < kTellLoss) {
    status = absl::ResourceExhaustedError(StrCat(
        "the audit trail is as large as audit.maxSize allows: lines were removed at ",
        audit::TextOf(trail_->removedEarly()),
        " that are younger than audit.keep. Raise audit.maxSize, or say with audit.keep what there is room for"));
  }
  const bool isLost = !lostText_.empty() && options_.steadyClock() - lostAt_ < kTellLoss;
  const MutexLock health(healthMutex_);
  health_ = std::move(status);
  lostNote_ = isLost ? lostText_ : "";
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
      sum.KeepCommonNames(counted.name, counted.serviceAccount);
      sum.counts.Add(counted.counts);
      sum.isByUser |= counted.isByUser;
      for (const auto& [user, count] : counted.users) sum.users[user] += count;
    }
  }
}

Recorder::Pseudonyms Recorder::FindPseudonyms() const {
  std::vector<crypto::KeyId> keys;
  for (const auto& [use, counted] : collected_) {
    for (const auto& [key, count] : counted.users) keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  Pseudonyms pseudonyms;
  if (keys.empty()) return pseudonyms;
  const absl::StatusOr<std::string> registry = options_.registryOf();
  // What waits has a bound, too.
  const bool isTooMuch = keys.size() >= Tally::kMostUsers;
  if (!registry.ok()) pseudonyms.areAll = isTooMuch;
  if (!registry.ok()) return pseudonyms;
  pseudonyms.registry = *registry;
  const absl::Duration begun = options_.steadyClock();
  for (size_t i = 0; i < keys.size(); i += kKeysAtOnce) {
    if (isEnding() && options_.steadyClock() - begun > kMostAskingAtEnd) {
      pseudonyms.areAll = isTooMuch;
      break;
    }
    const auto some = absl::MakeConstSpan(keys).subspan(i, kKeysAtOnce);
    const auto found = options_.pseudonymsOf(some);
    if (!found.ok()) {
      pseudonyms.areAll = isTooMuch;
      break;
    }
    for (size_t k = 0; k < some.size() && k < found->size(); ++k) {
      if ((*found)[k].has_value()) pseudonyms.byKey.emplace(some[k], *(*found)[k]);
    }
  }
  return pseudonyms;
}

bool Recorder::MakeLines(const TimeSpan& span, bool mayWait) {
  const Pseudonyms pseudonyms = FindPseudonyms();
  if (!pseudonyms.areAll && mayWait) return false;
  Excess excess;
  for (auto& [use, counted] : collected_) {
    absl::flat_hash_map<std::string, uint64_t> byPseudonym;  // a user may have had several keys
    Counts& counts = counted.counts;
    uint64_t ofUsers = 0;
    for (const auto& [key, count] : counted.users) {
      const auto found = pseudonyms.byKey.find(key);
      if (found == pseudonyms.byKey.end()) {
        counts.withoutUser += count;
      } else {
        byPseudonym[found->second] += count;
        ofUsers += count;
      }
    }
    excess.withoutUser += counts.withoutUser;
    // Also those that have no user: whoever asks for one is told.
    if (counted.isByUser) counts.withoutUser = counts.records - std::min(counts.records, ofUsers);
    if (use.topic.empty()) excess.records += counts.records;
    if (use.topic.empty()) excess.denials += counts.denials + counts.refused;
    Keep(span, use, counted, byPseudonym, pseudonyms.registry);
  }
  collected_.clear();
  const MutexLock health(healthMutex_);
  note_ = TextOf(excess);
  return true;
}

void Recorder::Keep(const TimeSpan& span, const Use& use, const Counted& counted,
                    const absl::flat_hash_map<std::string, uint64_t>& users, const std::string& registry) {
  std::vector<std::pair<std::string, uint64_t>> sorted(users.begin(), users.end());
  std::sort(sorted.begin(), sorted.end());
  Unit& unit = pending_.emplace_back(Unit{.lines = {}, .span = span, .records = counted.counts.records});
  unit.lines.push_back(LineOfUse(span, use, counted));
  for (std::string& line : LinesOfUsers(span, use, counted, sorted, registry)) unit.lines.push_back(std::move(line));
}

size_t Recorder::Unit::bytes() const {
  size_t bytes = 0;
  for (const std::string& line : lines) bytes += line.size();
  return bytes;
}

void Recorder::DropExcess() {
  size_t bytes = 0;
  for (const Unit& unit : pending_) bytes += unit.bytes();
  while (bytes > kMostPending) {
    const Unit& unit = pending_.back();
    if (!lost_.has_value()) lost_ = Lost{.from = unit.span.from, .to = unit.span.to};
    lost_->from = std::min(lost_->from, unit.span.from);
    lost_->to = std::max(lost_->to, unit.span.to);
    lost_->lines += unit.lines.size();
    lost_->records += unit.records;
    bytes -= unit.bytes();
    pending_.pop_back();
  }
  if (!lost_.has_value()) return;
  lostAt_ = options_.steadyClock();
  lostText_ = StrCat("what was counted between ", audit::TextOf(lost_->from), " and ", TextOfEnd(lost_->to),
                     " could not be kept: ", lost_->records, " records in ", lost_->lines, " lines");
}

absl::Status Recorder::OpenTrail(absl::Time now) {
  if (trail_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(trail_, Trail::Open(options_.folder, options_.limits));
  appendedAt_ = options_.steadyClock();
  Started started{.time = startedAt_, .opened = now, .unknownSince = std::nullopt};
  if (trail_->head().last > 0 && KindOf(trail_->lastLine()) != kKindOfEnd) {
    started.unknownSince = TimeIn(trail_->head().time).value_or(absl::UnixEpoch());
  }
  pending_.push_front({.lines = {LineOfStart(started, options_.agent, options_.version)}, .span = {now, now}});
  return absl::OkStatus();
}

// What could not be written stays, and is written when it can be.
absl::Status Recorder::Write(absl::Time now, bool isLast) {
  RETURN_IF_ERROR(OpenTrail(now));
  for (bool isAll = false; !isAll;) {
    std::vector<std::string> lines;
    size_t units = 0;
    for (size_t bytes = 0; units < pending_.size() && bytes < kPiece; ++units) {
      bytes += pending_[units].bytes();
      lines.insert(lines.end(), pending_[units].lines.begin(), pending_[units].lines.end());
    }
    isAll = units == pending_.size();
    if (isAll && lost_.has_value()) lines.push_back(LineOfLost(*lost_));
    if (isAll && isLast) lines.push_back(LineOfEnd(now));
    const absl::Duration steady = options_.steadyClock();
    RETURN_IF_ERROR(trail_->Append(lines, {.now = now, .elapsed = steady - appendedAt_, .isAll = isAll}));
    appendedAt_ = steady;
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(units));
  }
  lost_.reset();
  return absl::OkStatus();
}

}  // namespace kveil::audit
