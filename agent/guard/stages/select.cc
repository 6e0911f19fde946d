#include "guard/stages/select.h"

#include <optional>
#include <utility>

#include "kafka/varint.h"

namespace kveil::guard {

using std::chrono::milliseconds;

SelectFetched::SelectFetched(const policy::TopicPolicy& topic, const policy::EntrySet& readers,
                             std::chrono::system_clock::time_point now, const kafka::BatchHeader& header,
                             WorkerScratch& scratch)
    : topic_(topic),
      rules_(*topic.rules),
      readers_(readers),
      now_(std::chrono::duration_cast<milliseconds>(now.time_since_epoch()).count()),
      header_(header),
      scratch_(scratch) {
  if (rules_.NameUsers(readers)) users_ = &scratch.listedUsers.Of(topic);
}

bool SelectFetched::IsReady(Needs& needs) {
  return users_ == nullptr || users_->AreKnown(readers_, scratch_.keyCache, needs);
}

void SelectFetched::Of(absl::Span<const FetchedRecord> records) {
  Facts facts;
  for (size_t i = 0; i < records.size(); ++i) {
    if (users_ != nullptr) facts.user = UserOf(records[i]);
    if (rules_.needsAges()) facts.age = AgeOf(records[i].view);
    if (!rules_.headers().empty()) ReadHeaders(records[i].view, facts);
    left_[i] = readers_;
    answers_[i] = rules_.Decide(facts, left_[i], scratch_.ruleWork);
    // A tombstone has no value that could meet a condition.
    if (answers_[i] == Answer::kDependsOnValue && !records[i].view.value.has_value()) answers_[i] = Answer::kDenied;
  }
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

void SelectFetched::ReadHeaders(const kafka::RecordView& record, Facts& facts) const {
  const std::vector<std::string>& names = rules_.headers();
  std::array<bool, policy::kMostHeaders> isSeen{};
  for (size_t i = 0; i < names.size(); ++i) facts.headers[i] = std::nullopt;
  kafka::HeaderReader reader(record);
  kafka::HeaderView header;
  while (reader.Next(header)) {
    for (size_t i = 0; i < names.size(); ++i) {
      if (header.key != names[i]) continue;
      const bool isFirst = !std::exchange(isSeen[i], true);
      facts.headers[i] = std::nullopt;  // if it is there twice, some readers take the last
      if (isFirst && header.value.has_value()) facts.headers[i] = AsText(*header.value);
    }
  }
}

}  // namespace kveil::guard
