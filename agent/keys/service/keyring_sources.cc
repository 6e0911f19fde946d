// Following topics that consents come from, and knowing how current they are.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/service/keyring.h"

namespace kveil::keys {
namespace {

constexpr int kMostAttempts = 5;
static_assert(kMostConsentRecords <= Registry::kMostFactsOfAWrite);

// Looks of the service between two readings, with topics and without.
constexpr int kLooks = 2;
constexpr int kLooksWithout = 20;

// Whoever follows reads to the end more often, but for a first reading.
constexpr std::chrono::seconds kFollowedSince{15};

// Agents' clocks differ by less. For that long a time that has passed is kept: to another agent it has yet to come.
constexpr absl::Duration kClocksDiffer = absl::Minutes(10);
// The times of records that are ahead are rounded up to that, so that users of whom the same is known still share it.
constexpr absl::Duration kAheadStep = absl::Seconds(10);
// Nobody will see the day on which a record that is dated later counts.
constexpr absl::Duration kForEver = absl::Hours(24 * 365 * 100);

// What UserFacts::ahead is after a record with that time.
absl::Time AheadAfter(absl::Time record, absl::Time now, absl::Time former) {
  if (former <= now - kClocksDiffer) former = absl::InfinitePast();
  if (record <= now || record > now + kForEver) return former;
  return std::max(former, absl::UnixEpoch() + absl::Ceil(record - absl::UnixEpoch(), kAheadStep));
}

// Takes out what was withdrawn by command and is not surely granted later. The time of a producer whose clock is ahead
// tells nothing: then only what the reader knows counts, and the withdrawal stays in force until that time has passed,
// as the record may be read again. Returns how many were taken out though the record's time is later than the command.
size_t DropWithdrawn(const ConsentRecord& record, absl::Time now, users::UserFacts& facts) {
  const bool isAhead = record.time > now;
  std::vector<users::Withdrawal> held;
  std::erase_if(facts.consents, [&](const users::Consent& consent) {
    std::optional<users::Withdrawal> withdrawal = facts.WithdrawalOf(consent.purpose);
    if (!withdrawal.has_value()) return false;
    if (record.time <= withdrawal->time) return true;
    if (record.notBefore > withdrawal->time || (!isAhead && record.time > withdrawal->until)) return false;
    withdrawal->purpose = consent.purpose;
    held.push_back(*std::move(withdrawal));
    return true;
  });
  for (const users::Withdrawal& one : held) users::NoteWithdrawal(one.purpose, one.time, record.time, facts);
  return held.size();
}

}  // namespace

absl::StatusOr<std::vector<Registry::Source>> Keyring::ReadSources() {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  return registry_->ReadSources(/*withStates=*/true);
}

absl::StatusOr<std::vector<Registry::Source>> Keyring::ReadClocks() {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  return registry_->ReadSources(/*withStates=*/false);
}

absl::StatusOr<std::optional<LedSource>> Keyring::LeadSource(std::string_view keyspace,
                                                             std::chrono::milliseconds lease) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  ASSIGN_OR_RETURN(std::optional<Registry::Source> source,
                   registry_->LeadSource(keyspace, self_.id, self_.name, lease));
  if (!source.has_value()) return std::nullopt;
  return LedSource{*std::move(source), registry_->openings()};
}

std::optional<Registry::NewFacts> Keyring::ApplyRecords(const SubjectChanges& asked,
                                                        absl::Span<const ConsentRecord> records,
                                                        const Registry::SourceMove& move,
                                                        const Registry::KnownFacts& known,
                                                        FollowedRecords& followed) const {
  if (known.erased.has_value()) {
    followed.erased += asked.changes.size();
    return std::nullopt;
  }
  users::UserFacts before;
  if (!known.facts.empty()) {
    absl::StatusOr<users::UserFacts> decoded = users::Decode(known.facts);
    if (!decoded.ok()) {  // no agent of this version reads it: the user has no consent there
      followed.damaged += asked.changes.size();
      return std::nullopt;
    }
    before = *std::move(decoded);
  }
  users::UserFacts facts = before;
  const absl::Time now = options_.wallNow();
  for (const size_t index : asked.changes) {
    const ConsentRecord& record = records[index];
    users::FactsSource source{std::string(move.keyspace), move.generation, record.partition};
    facts.ahead = AheadAfter(record.time, now, facts.ahead);
    facts.consents = record.consents;
    followed.held += DropWithdrawn(record, now, facts);
    for (const users::Consent& consent : facts.consents) users::ForgetWithdrawal(consent.purpose, facts);
    const bool isSame = facts.source.has_value() && facts.source->keyspace == source.keyspace &&
                        facts.source->generation == source.generation;
    if (isSame && facts.source->partition != record.partition) {
      source.partition = users::kSeveralPartitions;
      facts.consents.clear();
      ++followed.scattered;
    }
    facts.source = std::move(source);
  }
  std::erase_if(facts.consents, [now](const users::Consent& consent) { return consent.until <= now; });
  if (facts == before) return std::nullopt;
  return Registry::NewFacts{
      asked.subject, asked.keyspace, users::Encode(facts), known.number,
      users::HistoryOf(users::Difference(before.consents, facts.consents), std::nullopt, self_.name)};
}

absl::StatusOr<FollowedRecords> Keyring::FollowSource(const Registry::SourceMove& wanted, uint64_t opening,
                                                      absl::Span<const ConsentRecord> records, bool mayLeaveOut,
                                                      bool& mayHaveChanged) {
  mayHaveChanged = false;
  Registry::SourceMove move = wanted;
  move.agent = self_.id;
  RETURN_IF_ERROR(registry_->EnsureOpen());
  // It may be a restored one, in which less was read.
  if (registry_->openings() != opening) return FollowedRecords();
  const bool adds =
      std::any_of(records.begin(), records.end(), [](const ConsentRecord& one) { return !one.consents.empty(); });
  if (adds) RETURN_IF_ERROR(registry_->CheckRoom());
  std::vector<SubjectChanges> asked;
  std::vector<Subject> subjects;
  absl::flat_hash_map<Subject, size_t> places;
  for (size_t i = 0; i < records.size(); ++i) {
    const Subject subject = keys_.SubjectOf({Scope::kUser, move.keyspace, records[i].user});
    const auto [place, isNew] = places.try_emplace(subject, asked.size());
    if (isNew) {
      asked.push_back({subject, move.keyspace, {}});
      subjects.push_back(subject);
    }
    asked[place->second].changes.push_back(i);
  }
  const absl::Time now = absl::FromUnixMillis(absl::ToUnixMillis(options_.wallNow()));
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    ASSIGN_OR_RETURN(const std::vector<Registry::KnownFacts> known, registry_->ReadFacts(subjects));
    FollowedRecords followed;
    std::vector<Registry::NewFacts> facts;
    for (size_t i = 0; i < asked.size(); ++i) {
      std::optional<Registry::NewFacts> one = ApplyRecords(asked[i], records, move, known[i], followed);
      if (one.has_value()) facts.push_back(*std::move(one));
    }
    if (followed.damaged > 0 && !mayLeaveOut) return followed;
    mayHaveChanged |= !facts.empty();
    ASSIGN_OR_RETURN(const Registry::Moved moved, registry_->MoveSource(move, facts, now));
    followed.isDone = moved.isDone;
    if (moved.isDone) {
      const bool isCurrent = clocks_.IsCurrent(std::string(move.keyspace), move.generation, now);
      if (move.age.has_value() && !isCurrent) clocks_.SetDue();
      if (clocks_.isDue()) RefreshSources();
      return followed;
    }
    // Others have changed the same users, or another agent follows.
    ASSIGN_OR_RETURN(const std::vector<Registry::Source> sources, registry_->ReadSources(/*withStates=*/true));
    const bool isMine = std::any_of(sources.begin(), sources.end(), [&](const Registry::Source& source) {
      return source.keyspace == move.keyspace && source.term == move.term && source.state == move.before;
    });
    if (!isMine) return FollowedRecords();
  }
  return absl::UnavailableError(StrCat(registry_->name(), ": others change the same users all the time; try again"));
}

absl::Status Keyring::ReleaseSource(std::string_view keyspace, int64_t term) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  return registry_->ReleaseSource(keyspace, term, self_.id);
}

absl::StatusOr<RereadAsked> Keyring::RereadSource(std::string_view keyspace) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  ASSIGN_OR_RETURN(const std::vector<Registry::Source> sources, registry_->ReadSources(/*withStates=*/false));
  const auto known =
      std::find_if(sources.begin(), sources.end(), [&](const auto& source) { return source.keyspace == keyspace; });
  if (known == sources.end())
    return absl::NotFoundError(StrCat("no topic of consents was ever followed for keyspace ", keyspace));
  // Whoever follows finds its term over, and begins with what this one leaves.
  ASSIGN_OR_RETURN(const std::optional<Registry::Source> source,
                   registry_->LeadSource(keyspace, self_.id, self_.name, std::chrono::milliseconds(0)));
  if (!source.has_value()) return absl::UnavailableError("another agent has begun to follow meanwhile; try again");
  const Registry::SourceMove move{keyspace,     source->term,       source->generation, kReadAnew,
                                  std::nullopt, source->staleAfter, source->state,      self_.id};
  ASSIGN_OR_RETURN(const Registry::Moved moved, registry_->MoveSource(move, {}, options_.wallNow()));
  if (!moved.isDone) return absl::UnavailableError("another agent has begun to follow meanwhile; try again");
  // It will be read anew. If nobody is told now, the lease that ends at once tells.
  (void)registry_->ReleaseSource(keyspace, source->term, self_.id);
  return RereadAsked{known->follower, known->age.has_value() && *known->age < kFollowedSince};
}

void Keyring::RefreshSources() {
  ++looksAtSources_;
  if (clocks_.isDue() || looksAtSources_ % (clocks_.empty() ? kLooksWithout : kLooks) == 0) {
    const SteadyTime asked = options_.steadyNow();
    const absl::StatusOr<std::vector<Registry::Source>> sources = ReadClocks();
    if (sources.ok()) clocks_.Take(*sources, asked);
  }
  SetSourceClocks();
}

}  // namespace kveil::keys
