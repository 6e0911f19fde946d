// The mark is a format that no version knows, and a table that says what else there is to know. Both are written in one
// transaction, before the first row is copied.
#include "keys/registry/sqlite_copy_source.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret.h"
#include "keys/registry/sqlite_schema.h"
#include "keys/registry/sqlite_tables.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {
namespace {

constexpr size_t kTokenSize = 16;

constexpr char kMakeMark[] =
    "CREATE TABLE moved (one INTEGER PRIMARY KEY CHECK (one = 1), token BLOB NOT NULL, target TEXT NOT NULL,"
    " format INTEGER NOT NULL, state INTEGER NOT NULL) STRICT";
constexpr char kReadMark[] = "SELECT token, target, state, format FROM moved";

ByteBuffer CopyOf(Bytes bytes) { return ByteBuffer(bytes.begin(), bytes.end()); }

std::string SetFormat(int64_t format) { return StrCat("PRAGMA user_version = ", format); }

}  // namespace

absl::Status RefuseMoved(Database& database, const std::string& path) {
  ASSIGN_OR_RETURN(Statement mark, database.Prepare(kReadMark));
  ASSIGN_OR_RETURN(const bool isThere, mark.Step());
  const std::string target = isThere ? std::string(mark.TextAt(1)) : "another place";
  const auto state = static_cast<SqliteCopySource::State>(isThere ? mark.IntegerAt(2) : 0);
  if (state == SqliteCopySource::State::kMoved) {
    return absl::FailedPreconditionError(
        StrCat("registry ", path, " was moved to ", target, ": name that one as keys.registry"));
  }
  return absl::FailedPreconditionError(StrCat("registry ", path, " is being moved to ", target,
                                              ": finish it by `kveil registry copy`, or give it up by ",
                                              "`kveil registry copy --give-up`"));
}

absl::StatusOr<std::unique_ptr<SqliteCopySource>> SqliteCopySource::Open(const std::string& path, Deadline deadline) {
  std::unique_ptr<SqliteCopySource> source(new SqliteCopySource(path));
  // An agent of an earlier version that uses it would not start again once it is migrated.
  const bool isThere = ::access(path.c_str(), F_OK) == 0;
  if (isThere) RETURN_IF_ERROR(source->OpenAlone(deadline));
  source->database_.reset();
  // Of an earlier version, or made just now; or one that is being moved, which is refused.
  const absl::Status usable = SqliteTables::OpenExisting(path, deadline).status();
  if (!usable.ok() && (!isThere || !absl::IsFailedPrecondition(usable))) return usable;
  RETURN_IF_ERROR(source->OpenAlone(deadline));
  ASSIGN_OR_RETURN(const int64_t format, source->database_->QueryInteger("PRAGMA user_version"));
  if (format != kMovedFormat) {
    if (!usable.ok()) return usable;
    return source;
  }
  RETURN_IF_ERROR(source->ReadMark());
  return source;
}

// With this locking mode, SQLite keeps the lock that it takes first, and everyone who has a file with a write-ahead log
// open stands in its way (https://sqlite.org/wal.html, "Use of WAL Without Shared-Memory").
absl::Status SqliteCopySource::OpenAlone(Deadline deadline) {
  ASSIGN_OR_RETURN(database_, Database::Open(path_));
  database_->SetLockDeadline(deadline);
  absl::Status alone = database_->Execute(
      "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;"
      "BEGIN IMMEDIATE; COMMIT;");
  if (!absl::IsAborted(alone)) return alone;
  return absl::FailedPreconditionError(
      StrCat("registry ", path_, " is in use by another process: stop the agent first"));
}

absl::Status SqliteCopySource::ReadMark() {
  ASSIGN_OR_RETURN(Statement mark, database_->Prepare(kReadMark));
  ASSIGN_OR_RETURN(const bool isThere, mark.Step());
  if (!isThere) return absl::DataLossError(StrCat("registry ", path_, " is corrupt: it does not say where it moves"));
  token_ = CopyOf(mark.BlobAt(0));
  target_ = mark.TextAt(1);
  state_ = static_cast<State>(mark.IntegerAt(2));
  format_ = mark.IntegerAt(3);
  return absl::OkStatus();
}

absl::Status SqliteCopySource::Begin(const std::string& target) {
  ByteBuffer token(kTokenSize);
  crypto::FillRandom(absl::MakeSpan(token));
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_, "BEGIN IMMEDIATE"));
  ASSIGN_OR_RETURN(const int64_t format, database_->QueryInteger("PRAGMA user_version"));
  RETURN_IF_ERROR(database_->Execute(kMakeMark));
  {
    ASSIGN_OR_RETURN(Statement add, database_->Prepare("INSERT INTO moved VALUES (1, ?1, ?2, ?3, ?4)"));
    add.Bind(1, Bytes(token));
    add.Bind(2, target);
    add.Bind(3, format);
    add.Bind(4, static_cast<int64_t>(State::kCopying));
    RETURN_IF_ERROR(add.Run());
  }
  RETURN_IF_ERROR(database_->Execute(SetFormat(kMovedFormat).c_str()));
  RETURN_IF_ERROR(transaction.Commit());
  return ReadMark();
}

absl::Status SqliteCopySource::GiveUp() {
  ASSIGN_OR_RETURN(Transaction transaction, Transaction::Begin(*database_, "BEGIN IMMEDIATE"));
  ASSIGN_OR_RETURN(const int64_t format, database_->QueryInteger("SELECT format FROM moved"));
  RETURN_IF_ERROR(database_->Execute("DROP TABLE moved"));
  RETURN_IF_ERROR(database_->Execute(SetFormat(format).c_str()));
  RETURN_IF_ERROR(transaction.Commit());
  state_ = State::kInUse;
  return Settle();
}

bool SqliteCopySource::isOfThisVersion() const { return state_ == State::kInUse || format_ == kSqliteFormat; }

absl::Status SqliteCopySource::SetState(State state, const std::string& target) {
  ASSIGN_OR_RETURN(Statement set, database_->Prepare("UPDATE moved SET state = ?1, target = ?2"));
  set.Bind(1, static_cast<int64_t>(state));
  set.Bind(2, target);
  RETURN_IF_ERROR(set.Run());
  state_ = state;
  target_ = target;
  return absl::OkStatus();
}

absl::Status SqliteCopySource::Settle() { return database_->QueryInteger("PRAGMA wal_checkpoint(TRUNCATE)").status(); }

absl::StatusOr<SqliteCopySource::Identity> SqliteCopySource::ReadIdentity() {
  ASSIGN_OR_RETURN(Statement read, database_->Prepare("SELECT registryId, wrappedSecret, created FROM registry"));
  ASSIGN_OR_RETURN(const bool isThere, read.Step());
  if (!isThere) return absl::FailedPreconditionError(StrCat("registry ", path_, " is empty: there is nothing to copy"));
  Identity identity;
  identity.identity.wrappedSecret = CopyOf(read.BlobAt(1));
  identity.created = read.IntegerAt(2);
  if (!CopyTo(identity.identity.id, read.BlobAt(0))) {
    return absl::DataLossError(StrCat("registry ", path_, " is corrupt: its id is malformed"));
  }
  // As the next number is found in SqliteTables.
  ASSIGN_OR_RETURN(identity.lastNumber,
                   database_->QueryInteger("SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name ="
                                           " 'erasures'), 0), coalesce((SELECT max(number) FROM users), 0))"));
  return identity;
}

absl::StatusOr<uint64_t> SqliteCopySource::Count(const CopiedTable& table) {
  ASSIGN_OR_RETURN(const int64_t count, database_->QueryInteger(StrCat("SELECT count(*) FROM ", table.source).c_str()));
  return static_cast<uint64_t>(count);
}

absl::StatusOr<SqliteCopySource::Rows> SqliteCopySource::ReadAfter(const CopiedTable& table,
                                                                   std::vector<CopiedValue> place) {
  std::vector<std::string> columns;
  for (const CopiedColumn& column : table.columns) columns.emplace_back(column.from);
  const std::string key = absl::StrJoin(columns.begin(), columns.begin() + static_cast<ptrdiff_t>(table.keySize), ", ");
  // By the index that there is.
  const auto first = [&](std::string_view what) { return StrCat("substr(", what, ", 1, ", table.indexed, ")"); };
  const bool isIndexed = table.indexed == 0;
  const std::string near =
      isIndexed ? "" : StrCat(first(table.columns[0].from), " >= coalesce(", first("?1"), ", x'') AND ");
  const std::string behind =
      place.empty() ? "" : StrCat(" WHERE ", near, "(", key, ") > (", place.size() == 1 ? "?1)" : "?1, ?2)");
  const std::string sql = StrCat("SELECT ", absl::StrJoin(columns, ", "), " FROM ", table.source, behind, " ORDER BY ",
                                 isIndexed ? "" : StrCat(first(table.columns[0].from), ", "), key);
  ASSIGN_OR_RETURN(Statement statement, database_->Prepare(sql.c_str()));
  Rows rows(table, std::move(statement), std::move(place));
  rows.Bind();
  return rows;
}

void SqliteCopySource::Rows::Bind() {
  int parameter = 0;
  for (const CopiedValue& value : place_) {
    ++parameter;
    const auto type = table_.columns[static_cast<size_t>(parameter) - 1].type;
    if (type == CopiedColumn::Type::kText) {
      statement_.Bind(parameter, AsText(std::get<ByteBuffer>(value)));
    } else if (type == CopiedColumn::Type::kBytes) {
      statement_.Bind(parameter, Bytes(std::get<ByteBuffer>(value)));
    } else {
      statement_.Bind(parameter, std::get<int64_t>(value));
    }
  }
}

absl::StatusOr<bool> SqliteCopySource::Rows::Next(std::vector<CopiedValue>& row) {
  ASSIGN_OR_RETURN(const bool isThere, statement_.Step());
  if (!isThere) return false;
  row.clear();
  for (size_t i = 0; i < table_.columns.size(); ++i) {
    const int column = static_cast<int>(i);
    if (statement_.IsNull(column)) {
      row.emplace_back();
    } else if (IsBytes(table_.columns[i])) {
      row.emplace_back(CopyOf(statement_.BlobAt(column)));
    } else {
      row.emplace_back(statement_.IntegerAt(column));
    }
  }
  return true;
}

}  // namespace kveil::keys
