// What PostgresRegistry does for what is known of users, and how it tells of changes and erasures. Why none is missed:
// postgres_registry.cc.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {

static_assert(Registry::kMostNewsOfAPoll == 1024, "as in the statement kPoll");

absl::StatusOr<std::vector<std::string>> PostgresRegistry::ReadKeyspaces() {
  const PostgresParameters none;
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadKeyspaces, none));
  std::vector<std::string> keyspaces;
  for (size_t i = 0; i < results.at(0).size(); ++i) keyspaces.emplace_back(results.at(0).TextAt(i, 0));
  return keyspaces;
}

absl::StatusOr<std::vector<Registry::KnownFacts>> PostgresRegistry::ReadFacts(absl::Span<const Subject> subjects) {
  std::vector<KnownFacts> known(subjects.size());
  if (subjects.empty()) return known;
  PostgresParameters parameters;
  parameters.AddArray(std::vector<Bytes>(subjects.begin(), subjects.end()));
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadFacts, parameters));
  const PostgresResult& rows = results.at(0);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto place = static_cast<size_t>(rows.IntegerAt(i, 0)) - 1;
    if (place >= known.size()) return Fail(Corrupt("an index is wrong"));
    if (!rows.IsNull(i, 1)) known[place] = {std::string(rows.TextAt(i, 1)), rows.IntegerAt(i, 2), std::nullopt};
    if (!rows.IsNull(i, 3)) known[place].erased = absl::FromUnixMillis(rows.IntegerAt(i, 3));
    if (!rows.IsNull(i, 4)) known[place].readmission = rows.IntegerAt(i, 4);
  }
  return known;
}

absl::StatusOr<std::vector<int64_t>> PostgresRegistry::WriteFacts(absl::Span<const NewFacts> facts, absl::Time now) {
  if (facts.empty()) {
    RETURN_IF_ERROR(CheckWritable(now));  // a commit waits for a synchronous standby only if it writes
    return std::vector<int64_t>();
  }
  ASSIGN_OR_RETURN(const Results results, WriteFactsBy(postgres::kWriteFacts, facts, FactsParameters(facts, now)));
  return TakeNumbers(results.at(1), facts);
}

PostgresParameters PostgresRegistry::FactsParameters(absl::Span<const NewFacts> facts, absl::Time now) {
  std::vector<Bytes> subjects, texts, changes;
  std::vector<int64_t> replaced;
  for (const NewFacts& one : facts) {
    subjects.emplace_back(one.subject);
    replaced.push_back(one.number);
    texts.push_back(AsBytes(one.facts));
    changes.push_back(AsBytes(one.history));
  }
  PostgresParameters parameters;
  parameters.AddArray(subjects).AddArray(replaced).AddArray(texts).AddArray(changes).Add(absl::ToUnixMillis(now));
  return parameters;
}

absl::StatusOr<PostgresRegistry::Results> PostgresRegistry::WriteFactsBy(const char* statement,
                                                                         absl::Span<const NewFacts> facts,
                                                                         const PostgresParameters& parameters) {
  std::vector<Bytes> subjects, keyspaces;
  for (const NewFacts& one : facts) {
    subjects.emplace_back(one.subject);
    if (keyspaces.empty() || AsText(keyspaces.back()) != one.keyspace) keyspaces.push_back(AsBytes(one.keyspace));
  }
  PostgresParameters addKeyspaces, drop;
  addKeyspaces.AddArray(keyspaces);
  drop.AddArray(subjects).Add(static_cast<int64_t>(kMostPastChanges));
  const PostgresStatement statements[] = {PostgresStatement::Execute(postgres::kAddKeyspaces, addKeyspaces),
                                          PostgresStatement::Execute(statement, parameters),
                                          PostgresStatement::Execute(postgres::kDropHistory, drop)};
  absl::StatusOr<Results> results = Transact(postgres::kLock, statements);
  if (!results.ok()) return Fail(results.status());
  return results;
}

absl::StatusOr<std::vector<int64_t>> PostgresRegistry::TakeNumbers(const PostgresResult& written,
                                                                   absl::Span<const NewFacts> facts) {
  std::vector<int64_t> numbers(facts.size());
  absl::flat_hash_map<Subject, size_t> places;
  for (size_t i = 0; i < facts.size(); ++i) places.try_emplace(facts[i].subject, i);
  for (size_t i = 0; i < written.size(); ++i) {
    if (written.IsNull(i, 0)) continue;
    Subject subject;
    const bool isWhole = CopyTo(subject, written.BytesAt(i, 0));
    const auto place = places.find(subject);
    if (!isWhole || place == places.end()) return Corrupt("a row is malformed");
    numbers[place->second] = written.IntegerAt(i, 1);
  }
  return numbers;
}

absl::StatusOr<std::vector<Registry::PastChange>> PostgresRegistry::ReadHistory(const Subject& subject) {
  PostgresParameters parameters;
  parameters.Add(subject).Add(static_cast<int64_t>(kMostPastChanges));
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadHistory, parameters));
  const PostgresResult& rows = results.at(0);
  std::vector<PastChange> changes;
  for (size_t i = 0; i < rows.size(); ++i) {
    changes.push_back(
        {rows.IntegerAt(i, 0), absl::FromUnixMillis(rows.IntegerAt(i, 1)), std::string(rows.TextAt(i, 2))});
  }
  return changes;
}

// While an answer is outstanding, whoever asks next takes it.
int PostgresRegistry::wakeDescriptor() const {
  return connection_ == nullptr || broken_ || step_ != Step::kNone ? -1 : connection_->descriptor();
}

// While an answer is outstanding, whoever asks next takes what came with it, too.
bool PostgresRegistry::isTold() const {
  return connection_ != nullptr && !broken_ && step_ == Step::kNone && connection_->isNotified();
}

absl::Status PostgresRegistry::TakeNews(const PostgresResult& result) {
  if (result.size() == 0 || result.IntegerAt(0, 0) != erasuresFile_ || result.IntegerAt(0, 1) < lastNumber_) {
    broken_ = true;
    return absl::UnavailableError(StrCat(name(), " was restored or rebuilt; it is opened anew"));
  }
  bool wellFormed = true;
  size_t count = 0;
  int64_t newest = lastNumber_;
  for (size_t i = 0; i < result.size(); ++i) {
    if (result.IsNull(i, 2)) continue;
    if (result.IntegerAt(i, 2) != newest) ++count;
    newest = std::max(newest, result.IntegerAt(i, 2));
    crypto::KeyId id;
    if (result.IsNull(i, 3)) continue;
    if (CopyTo(id.bytes, result.BytesAt(i, 3))) {
      (result.BooleanAt(i, 4) ? news_.erased : news_.changed).push_back(id);
    } else {
      wellFormed = false;
    }
  }
  news_.mayHaveMore = count >= kMostNewsOfAPoll;
  lastNumber_ = news_.mayHaveMore ? newest : result.IntegerAt(0, 1);
  return wellFormed ? absl::OkStatus() : Corrupt("a row is malformed");
}

absl::StatusOr<Registry::News> PostgresRegistry::Poll() {
  // Of an answer that came after its poll had given up. At once: the next poll may come too late as well.
  if (toldNumber_ == lastNumber_) {
    PostgresParameters after;
    after.Add(lastNumber_);
    // What has come by now, the poll tells of.
    if (connection_ != nullptr && step_ == Step::kNone) connection_->ForgetNotifications();
    const PostgresStatement poll[] = {PostgresStatement::Execute(postgres::kPoll, after)};
    absl::StatusOr<Results> results = Call(poll, Step::kPoll);
    if (!results.ok()) return Fail(results.status());
    if (absl::Status status = TakeNews(results->at(0)); !status.ok()) return Fail(status);
  }
  toldNumber_ = lastNumber_;
  return std::exchange(news_, {});
}

}  // namespace kveil::keys
