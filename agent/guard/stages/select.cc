#include "guard/stages/select.h"

#include <optional>
#include <utility>

#include "absl/hash/hash.h"
#include "kafka/varint.h"

namespace kveil::guard {

using std::chrono::milliseconds;

SelectFetched::SelectFetched(const policy::TopicPolicy& topic, const policy::EntrySet& readers,
                             const identity::Workload& reader, std::chrono::system_clock::time_point now,
                             const kafka::BatchHeader& header, WorkerScratch& scratch)
    : topic_(topic),
      rules_(*topic.rules),
      readers_(readers),
      now_(std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count()),
      header_(header),
      scratch_(scratch),
      reader_(reader),
      consentTime_(absl::FromChrono(now)) {
  if (rules_.NameUsers(readers)) users_ = &scratch.listedUsers.Of(topic);
  if (!rules_.AskFacts(readers)) return;
  met_.resize(kRemembered);
  metByNobody_ = rules_.MetBy(nullptr, consentTime_, reader_);
}

bool SelectFetched::IsReady(Needs& needs) {
  return users_ == nullptr || users_->AreKnown(readers_, scratch_.keyCache, needs);
}

void SelectFetched::OfOutside(absl::Span<const FetchedRecord> records) {
  Outside outside;
  for (size_t i = 0; i < records.size(); ++i) {
    if (rules_.needsAges()) outside.age = AgeOf(records[i].view);
    if (!rules_.headers().empty()) ReadHeaders(records[i].view, outside);
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
    if (!met_.empty() && !record.problem.has_value() && record.owner.state != Owner::State::kPending) {
      rules_.Narrow(MetBy(record.owner), left_[i]);
    }
    answers_[i] = rules_.AnswerOf(left_[i]);
    // A tombstone has no value that could meet a condition.
    if (answers_[i] == Answer::kDependsOnValue && !record.view.value.has_value()) answers_[i] = Answer::kDenied;
    if (answers_[i] != Answer::kDenied) continue;
    record.owner = Owner();
    // The registry has the key, though damaged. It is none of those of the users that the entries name, as theirs are
    // known, and a user has no other. (Where entries ask for what is known of a user, such a record is not denied.)
    const bool isKnown =
        record.problem.has_value() && record.problem->reason == observe::RefuseReason::kKeysUnavailable;
    if (isKnown) record.problem.reset();
  }
}

// What is known came with the key. A record without an envelope is of nobody, and of an erased user nothing is known.
const policy::EntrySet& SelectFetched::MetBy(const Owner& owner) {
  const users::UserFacts* const facts =
      owner.state == Owner::State::kPresent ? scratch_.keyCache.FactsOf(*owner.key) : nullptr;
  if (facts == nullptr) return metByNobody_;
  Met& met = met_[absl::HashOf(facts) % kRemembered];
  if (met.facts != facts) met = {facts, rules_.MetBy(facts, consentTime_, reader_)};
  return met.entries;
}

// Whoever's key the envelope names: the tag of the value vouches for it when the record is opened. A tombstone has no
// envelope. It counts as the user's that its key or header names, as it holds nothing that a lie could lay open; a user
// in the value has none.
std::optional<uint32_t> SelectFetched::UserOf(const FetchedRecord& record) {
  if (record.envelope.isThere) return users_->Find(record.envelope.fields.keyId);
  const bool isTombstone = !record.view.value.has_value();
  const policy::UserSource& source = topic_.seal->user;
  if (!isTombstone || source.from == policy::UserSource::From::kValue) return std::nullopt;
  std::string_view user;
  if (scratch_.userFinder.Find(source, record.view, user).has_value()) return std::nullopt;
  return rules_.NumberOf(user);
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

void SelectFetched::ReadHeaders(const kafka::RecordView& record, Outside& outside) const {
  const std::vector<std::string>& names = rules_.headers();
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

}  // namespace kveil::guard
