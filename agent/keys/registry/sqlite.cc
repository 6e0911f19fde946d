// SQLite's C interface behind owners and statuses.
#include "keys/registry/sqlite.h"

#include <sqlite3.h>
#include <string.h>

#include <thread>

#include "base/text.h"

namespace kveil::keys {

void Statement::Finalize::operator()(sqlite3_stmt* handle) const { sqlite3_finalize(handle); }

void Statement::Bind(int parameter, int64_t value) { sqlite3_bind_int64(handle_.get(), parameter, value); }

void Statement::Bind(int parameter, Bytes value) {
  // A null pointer would bind NULL.
  const void* data = value.empty() ? static_cast<const void*>("") : value.data();
  sqlite3_bind_blob(handle_.get(), parameter, data, static_cast<int>(value.size()), SQLITE_STATIC);
}

void Statement::Bind(int parameter, std::string_view value) {
  const char* data = value.empty() ? "" : value.data();
  sqlite3_bind_text(handle_.get(), parameter, data, static_cast<int>(value.size()), SQLITE_STATIC);
}

void Statement::BindNull(int parameter) { sqlite3_bind_null(handle_.get(), parameter); }

absl::StatusOr<bool> Statement::Step() {
  int code = sqlite3_step(handle_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  absl::Status status = database_->ErrorOf(code);
  Reset();
  return status;
}

absl::Status Statement::Run() {
  absl::StatusOr<bool> row = Step();
  Reset();
  return row.status();
}

void Statement::Reset() {
  sqlite3_reset(handle_.get());
  sqlite3_clear_bindings(handle_.get());
}

bool Statement::IsNull(int column) const { return sqlite3_column_type(handle_.get(), column) == SQLITE_NULL; }

int64_t Statement::IntegerAt(int column) const { return sqlite3_column_int64(handle_.get(), column); }

Bytes Statement::BlobAt(int column) const {
  const auto* data = static_cast<const uint8_t*>(sqlite3_column_blob(handle_.get(), column));
  return Bytes(data, data == nullptr ? 0 : static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column)));
}

std::string_view Statement::TextAt(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), column));
  if (data == nullptr) return {};
  return {data, static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column))};
}

absl::StatusOr<Transaction> Transaction::Begin(Database& database, const char* sql) {
  if (absl::Status status = database.Execute(sql); !status.ok()) return status;
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ != nullptr) (void)database_->Execute("ROLLBACK");
}

absl::Status Transaction::Commit() {
  absl::Status status = database_->Execute("COMMIT");
  // A commit that failed leaves the transaction open: the destructor rolls it back.
  if (status.ok()) database_ = nullptr;
  return status;
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path) {
  sqlite3* handle = nullptr;
  // One thread uses the connection, so SQLite's own mutex is not needed.
  int code = sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Database> database(new Database(path, handle));
  if (code != SQLITE_OK) return database->ErrorOf(code);
  sqlite3_extended_result_codes(handle, 1);
  // Closing would delete the log by its name; the name may meanwhile belong to a restored registry.
  sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  sqlite3_busy_handler(handle, &Database::WaitForLock, database.get());
  return database;
}

Database::~Database() { sqlite3_close_v2(handle_); }

absl::Status Database::Execute(const char* sql) {
  int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ErrorOf(code);
}

absl::StatusOr<Statement> Database::Prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  int code = sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return ErrorOf(code);
  return Statement(this, statement);
}

absl::StatusOr<int64_t> Database::QueryInteger(const char* sql) {
  absl::StatusOr<Statement> statement = Prepare(sql);
  if (!statement.ok()) return statement.status();
  absl::StatusOr<bool> row = statement->Step();
  if (!row.ok()) return row.status();
  return *row ? statement->IntegerAt(0) : 0;
}

void Database::SetMayGoOn(std::function<bool()> mayGoOn) {
  constexpr int kStepsBetween = 1000;  // some 50 us, and at most a page read from disk for each
  mayGoOn_ = std::move(mayGoOn);
  sqlite3_progress_handler(handle_, mayGoOn_ ? kStepsBetween : 0, &Database::AskToEnd, this);
}

int Database::AskToEnd(void* self) { return static_cast<const Database*>(self)->mayGoOn_() ? 0 : 1; }

int64_t Database::changes() const { return sqlite3_changes64(handle_); }

int64_t Database::lastInsertedRow() const { return sqlite3_last_insert_rowid(handle_); }

absl::Status Database::ErrorOf(int code) const {
  const std::string file = StrCat("registry ", path_);
  const int error = handle_ == nullptr ? 0 : sqlite3_system_errno(handle_);
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::AbortedError(StrCat(file, " is locked by another process"));
    case SQLITE_INTERRUPT:
      return absl::CancelledError(StrCat(file, ": told to end"));
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(StrCat(file, " cannot grow: the disk is full"));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(StrCat(file, " is corrupt (", sqlite3_errstr(code), "); restore it from a backup"));
    case SQLITE_READONLY:
      return absl::UnavailableError(StrCat(file, " cannot be written (", sqlite3_errstr(code), ")"));
    default: {
      const char* reason = error != 0 ? strerror(error) : "no system error";
      return absl::UnavailableError(StrCat(file, " cannot be used (", sqlite3_errstr(code), ": ", reason, ")"));
    }
  }
}

int Database::WaitForLock(void* self, int /*attempt*/) {
  const auto* database = static_cast<Database*>(self);
  if (std::chrono::steady_clock::now() >= database->lockDeadline_) return 0;
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return 1;
}

}  // namespace kveil::keys
