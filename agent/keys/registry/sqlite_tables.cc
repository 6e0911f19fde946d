// The registry's tables and statements.
#include "keys/registry/sqlite_tables.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "keys/registry/moved_note.h"
#include "keys/registry/sqlite_copy_source.h"
#include "keys/registry/sqlite_schema.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {
namespace {

// secure_delete: bytes of a destroyed key are overwritten, not only unlinked. synchronous FULL: a key that sealed an
// acknowledged record, and an erasure that was confirmed, survive a power cut. cache_size, in KiB: all of the inner
// pages of ten million users, and what was read last.
constexpr char kSettings[] =
    "PRAGMA secure_delete = ON;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA cache_size = -16384;"
    "PRAGMA cell_size_check = ON;"
    "PRAGMA trusted_schema = OFF;";

// Makes an empty file that only its owner may use: SQLite would take the mode from the umask, and gives its log the
// mode of the file. An existing file is not opened: closing it again would drop the locks that this process has on it.
absl::Status MakeFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid() && errno != EEXIST) {
    return absl::UnavailableError(StrCat("registry ", path, " cannot be made: ", strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status LaterFormat(const std::string& path, int64_t format) {
  return absl::FailedPreconditionError(
      StrCat("registry ", path, " has format ", format, "; this version of kveil knows only ", kSqliteFormat));
}

absl::Status CloseToOthers(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(StrCat("registry ", path, " is not a regular file"));
  }
  if ((info.st_mode & 077) != 0 && chmod(path.c_str(), 0600) != 0) {
    return absl::UnavailableError(StrCat("registry ", path, " is open to others than its owner: ", strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteTables>> SqliteTables::OpenOrCreate(
    const std::string& path, std::chrono::steady_clock::time_point lockDeadline, const Migrating& migrating) {
  if (access(path.c_str(), F_OK) != 0) RETURN_IF_ERROR(RefuseIfMoved(path));
  if (absl::Status status = MakeFile(path); !status.ok()) return status;
  return Open(path, lockDeadline, migrating);
}

absl::StatusOr<std::unique_ptr<SqliteTables>> SqliteTables::OpenExisting(
    const std::string& path, std::chrono::steady_clock::time_point lockDeadline, const Migrating& migrating) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    const std::string message = StrCat("registry ", path, " is missing: ", strerror(errno));
    const bool isGone = errno == ENOENT;
    if (isGone) RETURN_IF_ERROR(RefuseIfMoved(path));
    return isGone ? absl::NotFoundError(message) : absl::UnavailableError(message);
  }
  return Open(path, lockDeadline, migrating);
}

absl::StatusOr<std::unique_ptr<SqliteTables>> SqliteTables::Open(const std::string& path,
                                                                 std::chrono::steady_clock::time_point lockDeadline,
                                                                 const Migrating& migrating) {
  if (absl::Status status = CloseToOthers(path); !status.ok()) return status;
  absl::StatusOr<std::unique_ptr<Database>> database = Database::Open(path);
  if (!database.ok()) return database.status();
  std::unique_ptr<SqliteTables> registry(new SqliteTables(path, *std::move(database)));
  registry->SetLockDeadline(lockDeadline);
  registry->migrating_ = migrating;
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return absl::UnavailableError(StrCat("registry ", path, " cannot be used: ", strerror(errno)));
  }
  registry->device_ = info.st_dev;
  registry->inode_ = info.st_ino;
  for (auto step :
       {&SqliteTables::CheckFormat, &SqliteTables::CheckNote, &SqliteTables::Configure, &SqliteTables::Prepare}) {
    absl::Status status = (registry.get()->*step)();
    // SQLite does not wait where waiting could deadlock, as when two processes turn a new file to write-ahead logging.
    while (absl::IsAborted(status) && std::chrono::steady_clock::now() < lockDeadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      status = (registry.get()->*step)();
    }
    if (!status.ok()) return status;
  }
  registry->migrating_ = {};
  return registry;
}

absl::Status SqliteTables::CheckFormat() {
  // One view of the file: another process may be making the tables at this moment.
  absl::StatusOr<Transaction> transaction = BeginRead();
  if (!transaction.ok()) return transaction.status();
  absl::StatusOr<int64_t> application = database_->QueryInteger("PRAGMA application_id");
  if (!application.ok()) return application.status();
  absl::StatusOr<int64_t> format = database_->QueryInteger("PRAGMA user_version");
  if (!format.ok()) return format.status();
  absl::StatusOr<int64_t> tables = database_->QueryInteger("SELECT count(*) FROM sqlite_schema");
  if (!tables.ok()) return tables.status();
  if (*tables == 0 && *application == 0) return absl::OkStatus();
  if (*application != kSqliteApplication) {
    return absl::FailedPreconditionError(StrCat("registry ", path_, " is a database of something else"));
  }
  if (*format == kMovedFormat) return RefuseMoved(*database_, path_);
  if (*format < 1 || *format > kSqliteFormat) {  // an earlier one gets what it lacks
    return LaterFormat(path_, *format);
  }
  if (*format < kSqliteFormat && migrating_.isRefused) {
    return absl::FailedPreconditionError(StrCat("registry ", path_, " was replaced by a file of format ", *format,
                                                ", which is brought to format ", kSqliteFormat,
                                                " when kveil starts: restart kveil"));
  }
  return absl::OkStatus();
}

// After the format: a file that was moved says so itself.
absl::Status SqliteTables::CheckNote() { return RefuseIfMoved(path_); }

absl::Status SqliteTables::Configure() {
  if (absl::Status status = database_->Execute(kSettings); !status.ok()) return status;
  absl::StatusOr<Statement> mode = database_->Prepare("PRAGMA journal_mode");
  if (!mode.ok()) return mode.status();
  if (absl::StatusOr<bool> row = mode->Step(); !row.ok() || mode->TextAt(0) != "wal") {
    return absl::UnavailableError(StrCat("registry ", path_, " cannot have a write-ahead log on this file system"));
  }
  mode->Reset();
  ASSIGN_OR_RETURN(const int64_t format, database_->QueryInteger("PRAGMA user_version"));
  if (format == kSqliteFormat) return absl::OkStatus();
  const absl::Status migrated = Migrate();
  if (format > 0) (void)TruncateLog();  // it has grown to the size of the file, also if nothing came of it
  return migrated;
}

// Another process may have been quicker, also one of a later version.
absl::Status SqliteTables::Migrate() {
  ASSIGN_OR_RETURN(Transaction transaction, BeginWrite());
  ASSIGN_OR_RETURN(const int64_t format, database_->QueryInteger("PRAGMA user_version"));
  if (format == kSqliteFormat) return absl::OkStatus();
  if (format > kSqliteFormat) return LaterFormat(path_, format);
  if (format > 0) {
    RETURN_IF_ERROR(MakeTablesFrom(format));
  } else {
    RETURN_IF_ERROR(MakeTables(*database_));
  }
  RETURN_IF_ERROR(transaction.Commit());
  if (format > 0) log::Info("keys.registry.migrated", {{"registry", path_}, {"from", format}, {"to", kSqliteFormat}});
  return absl::OkStatus();
}

// What is written twice, into the log and then into the file, takes up to twice the file. A disk that got full would
// stop others on it, at each start anew.
absl::Status SqliteTables::CheckRoomToMigrate() const {
  struct stat file;
  struct statvfs disk;
  if (stat(path_.c_str(), &file) != 0 || statvfs(path_.c_str(), &disk) != 0) return absl::OkStatus();
  const uint64_t free =
      migrating_.freeBytes ? migrating_.freeBytes() : static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  const uint64_t needed = 2 * static_cast<uint64_t>(file.st_size);
  if (free >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(StrCat("registry ", path_, " needs ", (needed >> 20) + 1,
                                             " MiB of free disk to be brought to format ", kSqliteFormat, "; ",
                                             free >> 20, " MiB are free"));
}

// With millions of users, this takes a while.
absl::Status SqliteTables::MakeTablesFrom(int64_t format) {
  static constexpr std::chrono::milliseconds kBetweenAsking{50};
  RETURN_IF_ERROR(CheckRoomToMigrate());
  log::Info("keys.registry.migrating", {{"registry", path_}, {"from", format}, {"to", kSqliteFormat}});
  const absl::Status reason =
      absl::UnavailableError(StrCat("registry ", path_, " is brought from format ", format, " to ", kSqliteFormat));
  std::chrono::steady_clock::time_point next{};
  if (migrating_.mayWait) {
    database_->SetMayGoOn([this, &reason, &next] {
      const auto now = std::chrono::steady_clock::now();
      if (now < next) return true;
      next = now + kBetweenAsking;
      return migrating_.mayWait(reason);
    });
  }
  absl::Status made = MakeTables(*database_);
  database_->SetMayGoOn(nullptr);
  return made;
}

absl::Status SqliteTables::Prepare() {
  constexpr char kFindActive[] =
      "SELECT keyId, scope, k.subject, keyWindow, epoch, wrappedKey, state, facts FROM keyRows AS k"
      " LEFT JOIN users AS u ON u.subject = k.subject WHERE substr(k.subject, 1, 4) = substr(?1, 1, 4)"
      " AND k.subject = ?1 AND keyWindow = ?2 AND epochAndState > 0";
  constexpr char kFindById[] =
      "SELECT keyId, scope, k.subject, keyWindow, epoch, wrappedKey, state, facts FROM keyRows AS k"
      " LEFT JOIN users AS u ON u.subject = k.subject WHERE substr(keyId, 1, 4) = substr(?1, 1, 4) AND keyId = ?1";
  constexpr char kInsert[] =
      "INSERT INTO scopeKeys (keyId, subject, scopeAndWindow, minute, epochAndState, bytes)"
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
  constexpr char kErase[] =
      "UPDATE scopeKeys SET bytes = CAST(printf('%0*d', length(bytes), ?2) AS BLOB), epochAndState = -epochAndState"
      " WHERE substr(subject, 1, 4) = substr(?1, 1, 4) AND subject = ?1 AND epochAndState > 0";
  constexpr char kEraseById[] =
      "UPDATE scopeKeys SET bytes = CAST(printf('%0*d', length(bytes), ?2) AS BLOB), epochAndState = -epochAndState"
      " WHERE substr(keyId, 1, 4) = substr(?1, 1, 4) AND keyId = ?1 AND epochAndState > 0 AND bytes = ?3";
  constexpr char kFindErasure[] =
      "SELECT number, erased, keyCount, EXISTS (SELECT 1 FROM scopeKeys WHERE substr(subject, 1, 4) = substr(?1, 1, 4)"
      " AND subject = ?1 AND epochAndState > 0) FROM erasures WHERE subject = ?1";
  constexpr char kNextNumber[] =
      "SELECT 1 + max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'erasures'), 0),"
      " coalesce((SELECT max(number) FROM users), 0))";
  constexpr char kFindFacts[] =
      "SELECT coalesce(u.facts, x''), coalesce(u.number, 0), e.erased, coalesce(r.number, 0)"
      " FROM (SELECT ?1 AS subject) AS asked LEFT JOIN users AS u ON u.subject = asked.subject"
      " LEFT JOIN erasures AS e ON e.subject = asked.subject LEFT JOIN readmissions AS r ON r.subject = asked.subject";
  constexpr char kWriteFacts[] =
      "INSERT INTO users (subject, number, changed, facts) VALUES (?1, ?2, ?3, ?4)"
      " ON CONFLICT (subject) DO UPDATE SET number = ?2, changed = ?3, facts = ?4";
  constexpr char kDropHistory[] =
      "DELETE FROM history WHERE subject = ?1 AND number <="
      " (SELECT number FROM history WHERE subject = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
  constexpr char kEpochInUse[] =
      "SELECT max(epoch) FROM epochs LEFT JOIN turns USING (epoch) WHERE turns.epoch IS NULL OR used IS NOT NULL";
  constexpr char kRewrap[] =
      "UPDATE scopeKeys SET bytes = ?3, epochAndState = ?2 WHERE substr(keyId, 1, 4) = substr(?1, 1, 4) AND keyId = ?1"
      " AND epochAndState > 0 AND epochAndState < ?2 AND length(bytes) = length(?3)";
  const std::pair<Statement*, const char*> statements[] = {
      {&findActive_, kFindActive},
      {&findById_, kFindById},
      {&insert_, kInsert},
      {&addKeyspace_, "INSERT INTO keyspaces (name) VALUES (?1) ON CONFLICT DO NOTHING"},
      {&findErasure_, kFindErasure},
      {&erase_, kErase},
      {&eraseById_, kEraseById},
      {&addErasure_, "REPLACE INTO erasures (number, subject, keyspace, erased, keyCount) VALUES (?5, ?1, ?2, ?3, ?4)"},
      {&nextNumber_, kNextNumber},
      {&findFacts_, kFindFacts},
      {&writeFacts_, kWriteFacts},
      {&addHistory_, "INSERT INTO history (subject, number, time, change) VALUES (?1, ?2, ?3, ?4)"},
      {&dropHistory_, kDropHistory},
      {&overwriteFacts_, "UPDATE users SET facts = zeroblob(length(facts)) WHERE subject = ?1"},
      {&overwriteHistory_, "UPDATE history SET change = zeroblob(length(change)) WHERE subject = ?1"},
      {&forgetFacts_, "DELETE FROM users WHERE subject = ?1"},
      {&forgetHistory_, "DELETE FROM history WHERE subject = ?1"},
      {&epochInUse_, kEpochInUse},
      {&rewrap_, kRewrap},
  };
  for (const auto& [statement, sql] : statements) {
    absl::StatusOr<Statement> prepared = database_->Prepare(sql);
    if (!prepared.ok()) return prepared.status();
    *statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

bool SqliteTables::FileIsInPlace() const {
  struct stat info;
  return stat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_;
}

absl::StatusOr<std::optional<Registry::Identity>> SqliteTables::ReadIdentity() {
  absl::StatusOr<Statement> statement = database_->Prepare("SELECT registryId, wrappedSecret FROM registry");
  if (!statement.ok()) return statement.status();
  absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  if (!*row) return std::nullopt;
  Registry::Identity identity;
  const Bytes secret = statement->BlobAt(1);
  identity.wrappedSecret.assign(secret.begin(), secret.end());
  if (!CopyTo(identity.id, statement->BlobAt(0))) {
    return absl::DataLossError(StrCat("registry ", path_, " is corrupt: its id is malformed"));
  }
  return identity;
}

absl::Status SqliteTables::WriteIdentity(const Registry::Identity& identity, absl::Time now) {
  absl::StatusOr<Statement> statement = database_->Prepare("INSERT INTO registry VALUES (1, ?1, ?2, ?3, ?3)");
  if (!statement.ok()) return statement.status();
  statement->Bind(1, identity.id);
  statement->Bind(2, identity.wrappedSecret);
  statement->Bind(3, absl::ToUnixMillis(now));
  return statement->Run();
}

Registry::Found SqliteTables::TakeRow(const Statement& statement) const {
  Registry::Row row;
  const Bytes wrapped = statement.BlobAt(5);
  row.scope = static_cast<Scope>(statement.IntegerAt(1));
  row.name.window = statement.IntegerAt(3);
  row.epoch = statement.IntegerAt(4);
  row.wrappedKey.assign(wrapped.begin(), wrapped.end());
  row.erased = statement.IntegerAt(6) == kErased;
  if (!row.erased) row.facts = AsText(statement.BlobAt(7));
  if (CopyTo(row.id.bytes, statement.BlobAt(0)) && CopyTo(row.name.subject, statement.BlobAt(2))) return row;
  return absl::DataLossError(StrCat("registry ", path_, " is corrupt: a row is malformed"));
}

Registry::Found SqliteTables::ReadRow(Statement& statement) {
  ASSIGN_OR_RETURN(const bool found, statement.Step());
  Registry::Found row = found ? TakeRow(statement) : Registry::Found(std::nullopt);
  statement.Reset();
  return row;
}

Registry::Found SqliteTables::FindActive(const Registry::RowName& name) {
  findActive_.Bind(1, name.subject);
  findActive_.Bind(2, name.window);
  return ReadRow(findActive_);
}

Registry::Found SqliteTables::FindById(const crypto::KeyId& id) {
  findById_.Bind(1, id.bytes);
  return ReadRow(findById_);
}

absl::Status SqliteTables::Insert(const Registry::Row& row, bool erased, absl::Time now) {
  const std::string erasure = StoredErasure(now);
  insert_.Bind(1, row.id.bytes);
  insert_.Bind(2, row.name.subject);
  insert_.Bind(3, StoredScope(row.scope, row.name.window));
  insert_.Bind(4, StoredMinute(now));
  insert_.Bind(5, StoredEpoch(row.epoch, erased));
  insert_.Bind(6, erased ? AsBytes(erasure) : Bytes(row.wrappedKey));
  return insert_.Run();
}

absl::Status SqliteTables::AddKeyspace(std::string_view keyspace) {
  addKeyspace_.Bind(1, keyspace);
  return addKeyspace_.Run();
}

absl::StatusOr<std::vector<std::string>> SqliteTables::ReadKeyspaces() {
  absl::StatusOr<Statement> statement = database_->Prepare("SELECT name FROM keyspaces ORDER BY name");
  if (!statement.ok()) return statement.status();
  std::vector<std::string> keyspaces;
  for (;;) {
    absl::StatusOr<bool> row = statement->Step();
    if (!row.ok()) return row.status();
    if (!*row) return keyspaces;
    keyspaces.emplace_back(statement->TextAt(0));
  }
}

absl::Status SqliteTables::TruncateLog() {
  absl::StatusOr<int64_t> busy = database_->QueryInteger("PRAGMA wal_checkpoint(TRUNCATE)");
  if (!busy.ok()) return busy.status();
  if (*busy == 0) return absl::OkStatus();
  return absl::AbortedError(
      StrCat("registry ", path_, " is read by another process: its log still holds an erased key"));
}

absl::Status SqliteTables::ProbeWrite(absl::Time now) {
  absl::StatusOr<Statement> statement = database_->Prepare("UPDATE registry SET probed = ?1");
  if (!statement.ok()) return statement.status();
  statement->Bind(1, absl::ToUnixMillis(now));
  return statement->Run();
}

}  // namespace kveil::keys
