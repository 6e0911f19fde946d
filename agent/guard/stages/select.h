// Stage 2b, of topics whose readers have a `where`: which records the reader may have. Nothing is decrypted of those
// that it may not have.
//
// What anybody sees of a record is judged between the two halves of `identify`, so that no key is fetched of what that
// denies. Whose a record is, is judged when its key was looked up: a key that the registry does not know may be
// anybody's, also that of a user whom the reader's entries name. Such a record is not left out, but stops its reader.
//
// Who reads, or writes, every record of a topic has no such stage.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "guard/stages/identify.h"
#include "guard/worker/listed_users.h"
#include "guard/worker/needs.h"
#include "guard/worker/worker_scratch.h"
#include "identity/workload.h"
#include "kafka/record_batch.h"
#include "policy/policy.h"
#include "users/user_facts.h"

namespace kveil::guard {

// Nanoseconds or so, where an expression has RE2 take its slowest way; most take a tenth of it. Records of 100 bytes
// and 16 usual expressions come to 80,000 each, those of users with 3 consents to a few hundred. With less, readers
// would stop for good before batches that are there.
inline constexpr uint64_t kMostRuleWork = 8'000'000'000;

// Which entries what is known of users meets. Most users have the same few facts: they are remembered, so that a record
// costs a look at an address. No key is fetched while a pass lasts, so that an address means the same facts.
class MetByFacts {
 public:
  // All that is passed outlives it. `entries`: those that fit the workload.
  MetByFacts(const policy::RecordRules& rules, const policy::EntrySet& entries, absl::Time now,
             const identity::Workload& workload);

  // Whether any of the entries asks for facts. Otherwise `Of` is not to be called.
  bool areAsked() const { return !met_.empty(); }
  // By the user whose the record is. A record without an owner is nobody's, and of an erased user nothing is known.
  const policy::EntrySet& Of(const Owner& owner, WorkerScratch& scratch);
  // Whether something is known of the user that cannot be read: what depends on it is then neither met nor not met.
  static bool AreDamaged(const Owner& owner, const keys::KeyCache& cache);

 private:
  struct Met {
    const users::UserFacts* facts = nullptr;
    policy::EntrySet entries;
  };
  static constexpr size_t kRemembered = 32;
  const policy::RecordRules& rules_;
  const absl::Time now_;
  const identity::Workload& workload_;
  std::vector<Met> met_;
  policy::EntrySet byNothing_;
};

class SelectFetched {
 public:
  using Answer = policy::RecordRules::Answer;

  // All that is passed outlives it. `readers`: the entries of topic.read that fit the reader.
  SelectFetched(const policy::TopicPolicy& topic, const policy::EntrySet& readers, const identity::Workload& reader,
                std::chrono::system_clock::time_point now, const kafka::BatchHeader& header, WorkerScratch& scratch);

  // Before the first record: whether the worker knows the keys of the users that the reader's entries name. Otherwise
  // they are in `needs`, and nothing can be said of any record.
  bool IsReady(Needs& needs);

  // Judges what anybody sees of up to kMostIdentifiedAtOnce records. The answer for each of them is then kDenied, or
  // not known yet.
  void OfOutside(absl::Span<const FetchedRecord> records);
  // Judges whose they are. Those that were not denied before have their owners, or problems. Who is denied after all
  // has neither any more, unless it is not known whose it is. Whoever is neither denied nor let through because what is
  // known of the user is damaged, has a problem: the record stops its reader, as one whose key is damaged.
  void OfOwners(absl::Span<FetchedRecord> records);
  // The answer for each of them.
  Answer answer(size_t record) const { return answers_[record]; }
  // After kDependsOnValue. At least 64 readable bytes follow the value.
  bool FitsValue(size_t record, Bytes value) {
    return rules_.FitsValue(value, scratch_.ruleFinder, left_[record], scratch_.ruleWork);
  }
  // Of a record that the reader may have: the entry that lets it.
  std::optional<size_t> EntryOf(size_t record) const { return rules_.FirstOf(left_[record], answers_[record]); }
  // What the rules may take for one batch. A pass does not suspend, and the others wait for its end.
  bool isTooMuchWork() const { return scratch_.ruleWork > kMostRuleWork; }

 private:
  using Outside = policy::RecordRules::Outside;
  std::optional<uint32_t> UserOf(const FetchedRecord& record);
  std::optional<std::chrono::milliseconds> AgeOf(const kafka::RecordView& record) const;

  const policy::TopicPolicy& topic_;
  const policy::RecordRules& rules_;
  const policy::EntrySet& readers_;
  const int64_t now_;  // in milliseconds since 1970, as Kafka counts
  const kafka::BatchHeader& header_;
  WorkerScratch& scratch_;
  MetByFacts met_;
  ListedUsers* users_ = nullptr;  // of a reader whose entries name users
  std::array<Answer, kMostIdentifiedAtOnce> answers_;
  std::array<policy::EntrySet, kMostIdentifiedAtOnce> left_;  // entries that a record meets so far
};

// Which records a workload may write, of topics whose `write` has a `where`. Behind `identify`, which knows the users,
// and what is known of them.
class SelectProduced {
 public:
  // All that is passed outlives it. `writers`: the entries of topic.write that fit the workload.
  SelectProduced(const policy::TopicPolicy& topic, const policy::EntrySet& writers, const identity::Workload& writer,
                 absl::Time now, WorkerScratch& scratch)
      : topic_(topic),
        rules_(*topic.writeRules),
        writers_(writers),
        scratch_(scratch),
        met_(rules_, writers, now, writer) {}

  // Gives those a problem that no entry lets be written. At least 64 readable bytes follow the records.
  void Of(absl::Span<ProducedRecord> records);
  // As of SelectFetched.
  std::optional<size_t> EntryOf(size_t record) const { return entries_[record]; }
  bool isTooMuchWork() const { return scratch_.ruleWork > kMostRuleWork; }

 private:
  // The entry that lets it be written.
  std::optional<size_t> FindEntry(const ProducedRecord& record);
  std::optional<uint32_t> UserOf(const ProducedRecord& record);

  const policy::TopicPolicy& topic_;
  const policy::RecordRules& rules_;
  const policy::EntrySet& writers_;
  WorkerScratch& scratch_;
  MetByFacts met_;
  std::array<std::optional<size_t>, kMostIdentifiedAtOnce> entries_;
};

}  // namespace kveil::guard
