// What an SQLite registry does to erase users, and to end erasures.
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/sqlite_tables.h"

namespace kveil::keys {

absl::StatusOr<std::optional<SqliteTables::Erasure>> SqliteTables::FindErasure(const Subject& subject) {
  findErasure_.Bind(1, subject);
  absl::StatusOr<bool> row = findErasure_.Step();
  if (!row.ok()) return row.status();
  std::optional<Erasure> erasure;
  if (*row) {
    erasure = Erasure{findErasure_.IntegerAt(0), absl::FromUnixMillis(findErasure_.IntegerAt(1)),
                      static_cast<size_t>(findErasure_.IntegerAt(2)), findErasure_.IntegerAt(3) != 0};
  }
  findErasure_.Reset();
  return erasure;
}

absl::StatusOr<size_t> SqliteTables::DestroyKeys(const Subject& subject, absl::Time now) {
  erase_.Bind(1, subject);
  erase_.Bind(2, absl::ToUnixMillis(now));
  RETURN_IF_ERROR(erase_.Run());
  return static_cast<size_t>(database_->changes());
}

absl::StatusOr<SqliteTables::Erasure> SqliteTables::Erase(const Subject& subject, std::string_view keyspace,
                                                          bool isAlways, absl::Time now) {
  ASSIGN_OR_RETURN(const size_t keyCount, DestroyKeys(subject, now));
  Erasure erasure{0, now, keyCount};
  ASSIGN_OR_RETURN(const int64_t number, NextNumber());
  ASSIGN_OR_RETURN(const bool wasKnown, ForgetFacts(subject));
  if (erasure.keyCount == 0 && !wasKnown && !isAlways) return erasure;
  addErasure_.Bind(5, number);
  addErasure_.Bind(1, subject);
  addErasure_.Bind(2, keyspace);
  addErasure_.Bind(3, absl::ToUnixMillis(now));
  addErasure_.Bind(4, static_cast<int64_t>(erasure.keyCount));
  if (absl::Status status = addErasure_.Run(); !status.ok()) return status;
  erasure.number = number;
  return erasure;
}

absl::StatusOr<bool> SqliteTables::IsUserOrUnknown(const Subject& subject) {
  ASSIGN_OR_RETURN(Statement other,
                   database_->Prepare("SELECT 1 FROM keyRows WHERE substr(subject, 1, 4) = substr(?1, 1, 4)"
                                      " AND subject = ?1 AND epochAndState > 0 AND scope <> ?2 UNION ALL"
                                      " SELECT 1 FROM keyRows WHERE substr(subject, 1, 4) = substr(?1, 1, 4)"
                                      " AND subject = ?1 AND epochAndState < 0 AND scope <> ?2"));
  other.Bind(1, subject);
  other.Bind(2, static_cast<int64_t>(Scope::kUser));
  ASSIGN_OR_RETURN(const bool isThere, other.Step());
  return !isThere;
}

absl::StatusOr<int64_t> SqliteTables::CountKeylessErasures(int64_t most) {
  ASSIGN_OR_RETURN(Statement count, database_->Prepare("SELECT count(*) FROM (SELECT 1 FROM erasures"
                                                       " WHERE keyCount = 0 LIMIT ?1)"));
  count.Bind(1, most);
  RETURN_IF_ERROR(count.Step().status());
  return count.IntegerAt(0);
}

// The change has a number, so that the numbers go on growing without the erasure's.
absl::Status SqliteTables::Readmit(const Subject& subject, absl::Time now) {
  ASSIGN_OR_RETURN(const int64_t number,
                   WriteFacts({.subject = subject, .keyspace = {}, .facts = {}, .history = {}}, now));
  ASSIGN_OR_RETURN(Statement note, database_->Prepare("INSERT INTO readmissions (subject, number, time)"
                                                      " VALUES (?1, ?2, ?3) ON CONFLICT (subject) DO UPDATE SET"
                                                      " number = ?2, time = ?3"));
  note.Bind(1, subject);
  note.Bind(2, number);
  note.Bind(3, absl::ToUnixMillis(now));
  RETURN_IF_ERROR(note.Run());
  ASSIGN_OR_RETURN(Statement end, database_->Prepare("DELETE FROM erasures WHERE subject = ?1"));
  end.Bind(1, subject);
  return end.Run();
}

}  // namespace kveil::keys
