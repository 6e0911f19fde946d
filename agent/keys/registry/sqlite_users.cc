// What an SQLite registry knows of users, and the news of that and of erasures.
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/sqlite_tables.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {

absl::StatusOr<bool> SqliteTables::ForgetFacts(const Subject& subject) {
  for (Statement* statement : {&overwriteFacts_, &overwriteHistory_, &forgetHistory_, &forgetFacts_}) {
    statement->Bind(1, subject);
    RETURN_IF_ERROR(statement->Run());
  }
  return database_->changes() > 0;
}

absl::StatusOr<Registry::KnownFacts> SqliteTables::ReadFacts(const Subject& subject) {
  findFacts_.Bind(1, subject);
  RETURN_IF_ERROR(findFacts_.Step().status());
  Registry::KnownFacts known;
  known.facts = AsText(findFacts_.BlobAt(0));
  known.number = findFacts_.IntegerAt(1);
  if (!findFacts_.IsNull(2)) known.erased = absl::FromUnixMillis(findFacts_.IntegerAt(2));
  known.readmission = findFacts_.IntegerAt(3);
  findFacts_.Reset();
  return known;
}

absl::StatusOr<int64_t> SqliteTables::WriteFacts(const Registry::NewFacts& facts, absl::Time now) {
  ASSIGN_OR_RETURN(const int64_t number, NextNumber());
  writeFacts_.Bind(1, facts.subject);
  writeFacts_.Bind(2, number);
  writeFacts_.Bind(3, absl::ToUnixMillis(now));
  writeFacts_.Bind(4, AsBytes(facts.facts));
  RETURN_IF_ERROR(writeFacts_.Run());
  if (facts.history.empty()) return number;
  addHistory_.Bind(1, facts.subject);
  addHistory_.Bind(2, number);
  addHistory_.Bind(3, absl::ToUnixMillis(now));
  addHistory_.Bind(4, AsBytes(facts.history));
  RETURN_IF_ERROR(addHistory_.Run());
  dropHistory_.Bind(1, facts.subject);
  dropHistory_.Bind(2, static_cast<int64_t>(Registry::kMostPastChanges));
  RETURN_IF_ERROR(dropHistory_.Run());
  return number;
}

absl::StatusOr<std::vector<Registry::PastChange>> SqliteTables::ReadHistory(const Subject& subject) {
  ASSIGN_OR_RETURN(
      Statement statement,
      database_->Prepare("SELECT number, time, change FROM history WHERE subject = ?1 ORDER BY number LIMIT ?2"));
  statement.Bind(1, subject);
  statement.Bind(2, static_cast<int64_t>(Registry::kMostPastChanges));
  std::vector<Registry::PastChange> changes;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return changes;
    changes.push_back({statement.IntegerAt(0), absl::FromUnixMillis(statement.IntegerAt(1)),
                       std::string(AsText(statement.BlobAt(2)))});
  }
}

absl::StatusOr<int64_t> SqliteTables::NextNumber() {
  RETURN_IF_ERROR(nextNumber_.Step().status());
  const int64_t number = nextNumber_.IntegerAt(0);
  nextNumber_.Reset();
  return number;
}

absl::StatusOr<SqliteTables::News> SqliteTables::ReadNewsAfter(int64_t after, size_t most) {
  // Two joins: an index for the keys of one state is used only where the state is a constant.
  ASSIGN_OR_RETURN(
      Statement statement,
      database_->Prepare(
          "SELECT n.number, n.state, coalesce(gone.keyId, kept.keyId) FROM"
          " (SELECT number, subject, 2 AS state FROM erasures WHERE number > ?1"
          "  UNION ALL SELECT number, subject, 1 FROM users WHERE number > ?1 ORDER BY number LIMIT ?2) AS n"
          " LEFT JOIN scopeKeys AS gone ON n.state = 2 AND substr(gone.subject, 1, 4) = substr(n.subject, 1, 4)"
          "  AND gone.subject = n.subject AND gone.epochAndState < 0"
          " LEFT JOIN scopeKeys AS kept ON n.state = 1 AND substr(kept.subject, 1, 4) = substr(n.subject, 1, 4)"
          "  AND kept.subject = n.subject AND kept.epochAndState > 0"
          " ORDER BY n.number"));
  statement.Bind(1, after);
  statement.Bind(2, static_cast<int64_t>(most));
  News news;
  news.last = after;
  size_t count = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) break;
    if (statement.IntegerAt(0) != news.last) ++count;
    news.last = statement.IntegerAt(0);
    if (statement.IsNull(2)) continue;  // a user without a key
    const bool isErased = statement.IntegerAt(1) == kErased;
    crypto::KeyId& id = (isErased ? news.news.erased : news.news.changed).emplace_back();
    if (!CopyTo(id.bytes, statement.BlobAt(2))) {
      return absl::DataLossError(StrCat("registry ", path_, " is corrupt: a row is malformed"));
    }
  }
  news.news.mayHaveMore = count >= most;
  return news;
}

absl::StatusOr<int64_t> SqliteTables::ReadLastNumber() {
  return database_->QueryInteger(
      "SELECT max(coalesce((SELECT max(number) FROM erasures), 0), coalesce((SELECT max(number) FROM users), 0))");
}

}  // namespace kveil::keys
