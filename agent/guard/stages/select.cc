#include "guard/stages/select.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/hash/hash.h"
#include "kafka/varint.h"

namespace kveil::guard {

using std::chrono::milliseconds;

namespace {

constexpr std::string_view kDamagedFacts = "what the registry knows of a record's user is damaged";
constexpr std::string_view kMayNotWrite = "no entry of \"write\" lets the workload write this record";

void ReadHeaders(const policy::RecordRules& rules, const kafka::RecordView& record,
                 policy::RecordRules::Outside& outside) {
  const std::vector<std::string>& names = rules.headers();
  std::array<bool, policy::kMostHeaders> isSeen{};
  for (size_t i = 0; i < names.size(); ++i) outside.headers[i] = std::nullopt;
  kafka::HeaderReader reader(record);
  kafka::HeaderView header;
  while (reader.Next(header)) {
    for (size_t i = 0; i < names.size(); ++i) {
      if (header.key != names[i]) continue;
      const bool isFirst = !std::exchange(isSeen[i], true);
      outside.headers[i] = std::nullopt;  // if it is there twice, some readers take the last
      if (isFirst && header.value.has_value()) outside.headers[i] = AsText(*header.value);
    }
  }
}

// The user whose key or header a tombstone names. A user in the value has none.
std::optional<uint32_t> NumberOfTombstone(const policy::TopicPolicy& topic, const policy::RecordRules& rules,
                                          const kafka::RecordView& record, UserFinder& finder) {
  const policy::UserSource& source = topic.seal->user;
  if (source.from == policy::UserSource::From::kValue) return std::nullopt;
  std::string_view user;
  if (finder.Find(source, record, user).has_value()) return std::nullopt;
  return rules.NumberOf(user);
}

}  // namespace

MetByFacts::MetByFacts(const policy::RecordRules& rules, const policy::EntrySet& entries, absl::Time now,
                       const identity::Workload& workload)
    : rules_(rules), now_(now), workload_(workload) {
  if (!rules.AskFacts(entries)) return;
  met_.resize(kRemembered);
  uint64_t none = 0;
  byNothing_ = rules.MetBy(nullptr, now, workload, none);
}

const policy::EntrySet& MetByFacts::Of(const Owner& owner, WorkerScratch& scratch) {
  const users::UserFacts* const facts =
      owner.state == Owner::State::kPresent ? scratch.keyCache.FactsOf(*owner.key) : nullptr;
  if (facts == nullptr) return byNothing_;
  Met& met = met_[absl::HashOf(facts) % kRemembered];
  if (met.facts != facts) met = {facts, rules_.MetBy(facts, now_, workload_, scratch.ruleWork)};
  return met.entries;
}

bool MetByFacts::AreDamaged(const Owner& owner, const keys::KeyCache& cache) {
  return owner.state == Owner::State::kPresent && users::IsDamaged(cache.FactsOf(*owner.key));
}

SelectFetched::SelectFetched(const policy::TopicPolicy& topic, const policy::EntrySet& readers,
                             const identity::Workload& reader, std::chrono::system_clock::time_point now,
                             const kafka::BatchHeader& header, WorkerScratch& scratch)
    : topic_(topic),
      rules_(*topic.rules),
      readers_(readers),
      now_(std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count()),
      header_(header),
      scratch_(scratch),
      met_(rules_, readers, absl::FromChrono(now), reader) {
  if (rules_.NameUsers(readers)) users_ = &scratch.listedUsers.Of(topic);
}

bool SelectFetched::IsReady(Needs& needs) {
  return users_ == nullptr || users_->AreKnown(readers_, scratch_.keyCache, needs);
}

void SelectFetched::OfOutside(absl::Span<const FetchedRecord> records) {
  Outside outside;
  for (size_t i = 0; i < records.size(); ++i) {
    if (rules_.needsAges()) outside.age = AgeOf(records[i].view);
    if (!rules_.headers().empty()) ReadHeaders(rules_, records[i].view, outside);
    left_[i] = readers_;
    rules_.NarrowByOutside(outside, left_[i], scratch_.ruleWork);
    answers_[i] = rules_.AnswerOf(left_[i]);
  }
}

void SelectFetched::OfOwners(absl::Span<FetchedRecord> records) {
  for (size_t i = 0; i < records.size(); ++i) {
    if (answers_[i] == Answer::kDenied) continue;
    FetchedRecord& record = records[i];
    if (users_ != nullptr) rules_.NarrowByUser(UserOf(record), left_[i]);
    // Of a key that cannot be had, nothing is known, and nothing is decided: the record stops its reader, or waits.
    if (met_.areAsked() && !record.problem.has_value() && record.owner.state != Owner::State::kPending) {
      const bool dependsOnDamage = MetByFacts::AreDamaged(record.owner, scratch_.keyCache) && rules_.AskFacts(left_[i]);
      rules_.Narrow(met_.Of(record.owner, scratch_), left_[i]);
      if (dependsOnDamage && rules_.AnswerOf(left_[i]) != Answer::kMayRead) {
        record.problem = Problem{observe::RefuseReason::kKeysUnavailable, kDamagedFacts};
        continue;
      }
    }
    answers_[i] = rules_.AnswerOf(left_[i]);
    // A tombstone has no value that could meet a condition.
    if (answers_[i] == Answer::kDependsOnValue && !record.view.value.has_value()) answers_[i] = Answer::kDenied;
    if (answers_[i] != Answer::kDenied) continue;
    // Whether it is an erased user's, and whether that is known, counts for what a reader gets in its place.
    if (record.owner.state == Owner::State::kPresent) record.owner = Owner();
    // The registry has the key, though damaged. It is none of those of the users that the entries name, as theirs are
    // known, and a user has no other. (Where entries ask for what is known of a user, such a record is not denied.)
    const bool isKnown =
        record.problem.has_value() && record.problem->reason == observe::RefuseReason::kKeysUnavailable;
    if (isKnown) record.problem.reset();
  }
}

// Whoever's key the envelope names: the tag of the value vouches for it when the record is opened. A tombstone has no
// envelope. It counts as the user's that it names, as it holds nothing that a lie could lay open. The key of an erased
// user is nobody's any more: whether this worker has seen it before must not matter.
std::optional<uint32_t> SelectFetched::UserOf(const FetchedRecord& record) {
  if (record.owner.state == Owner::State::kErased) return std::nullopt;
  if (record.envelope.isThere) return users_->Find(record.envelope.fields.keyId);
  if (record.view.value.has_value()) return std::nullopt;
  return NumberOfTombstone(topic_, rules_, record.view, scratch_.userFinder);
}

// By the broker's clock where the topic says so (LogAppendTime): then all records have the batch's time. A record in
// the future is as old as one that is new.
std::optional<milliseconds> SelectFetched::AgeOf(const kafka::RecordView& record) const {
  int64_t time = header_.maxTimestamp;
  if (!header_.isLogAppendTime()) {
    int64_t delta = 0;
    const uint8_t* cursor = record.timestampDelta.data();
    if (!kafka::ReadVarlong(cursor, cursor + record.timestampDelta.size(), delta)) return std::nullopt;
    // With a delete horizon the base timestamp is that horizon, and the deltas count from it all the same (KIP-534).
    if (__builtin_add_overflow(header_.baseTimestamp, delta, &time)) return std::nullopt;
  }
  if (time < 0) return std::nullopt;  // there is none
  return milliseconds(now_ - time);
}

void SelectProduced::Of(absl::Span<ProducedRecord> records) {
  for (size_t i = 0; i < records.size(); ++i) {
    ProducedRecord& record = records[i];
    // What is pending is judged by the next pass.
    if (record.problem.has_value() || record.owner.state == Owner::State::kPending || isTooMuchWork()) continue;
    entries_[i] = FindEntry(record);
    if (entries_[i].has_value()) continue;
    const bool isDamaged = met_.areAsked() && MetByFacts::AreDamaged(record.owner, scratch_.keyCache);
    record.problem = isDamaged ? Problem{observe::RefuseReason::kKeysUnavailable, kDamagedFacts}
                               : Problem{observe::RefuseReason::kDenied, kMayNotWrite};
  }
}

std::optional<size_t> SelectProduced::FindEntry(const ProducedRecord& record) {
  policy::EntrySet left = writers_;
  policy::RecordRules::Outside outside;
  if (!rules_.headers().empty()) ReadHeaders(rules_, record.view, outside);
  rules_.NarrowByOutside(outside, left, scratch_.ruleWork);
  if (rules_.NameUsers(left)) rules_.NarrowByUser(UserOf(record), left);
  if (met_.areAsked()) rules_.Narrow(met_.Of(record.owner, scratch_), left);
  const policy::RecordRules::Answer answer = rules_.AnswerOf(left);
  switch (answer) {
    case policy::RecordRules::Answer::kMayRead:
      return rules_.FirstOf(left, answer);
    case policy::RecordRules::Answer::kDenied:
      return std::nullopt;
    case policy::RecordRules::Answer::kDependsOnValue:
      break;
  }
  const bool fits = record.view.value.has_value() &&
                    rules_.FitsValue(*record.view.value, scratch_.ruleFinder, left, scratch_.ruleWork);
  return fits ? rules_.FirstOf(left, answer) : std::nullopt;
}

// A tombstone is sealed for nobody. It counts as the user's that its key or header names.
std::optional<uint32_t> SelectProduced::UserOf(const ProducedRecord& record) {
  if (record.view.value.has_value()) return rules_.NumberOf(record.user);
  return NumberOfTombstone(topic_, rules_, record.view, scratch_.userFinder);
}

}  // namespace kveil::guard
