// The little of SQLite that the registry needs, with owners for its handles and statuses for its errors.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"

struct sqlite3;
struct sqlite3_stmt;

namespace kveil::keys {

class Database;

// One prepared statement, kept and used again:
//
//   statement.Bind(1, id.bytes);
//   absl::StatusOr<bool> row = statement.Step();   // true: a row is there to read
//   ... statement.BlobAt(0) ...
//   statement.Reset();                             // before the next Bind, and before the transaction ends
class Statement {
 public:
  Statement() = default;
  Statement(Database* database, sqlite3_stmt* handle) : database_(database), handle_(handle) {}

  // Parameters count from 1. Bytes and texts must live until Reset.
  void Bind(int parameter, int64_t value);
  void Bind(int parameter, Bytes value);
  void Bind(int parameter, std::string_view value);
  void BindNull(int parameter);

  // True when a row can be read, false at the end.
  absl::StatusOr<bool> Step();
  // For a statement without rows: one Step, then Reset.
  absl::Status Run();
  void Reset();

  // Columns count from 0. Views are valid until the next Step or Reset.
  bool IsNull(int column) const;
  int64_t IntegerAt(int column) const;
  Bytes BlobAt(int column) const;
  std::string_view TextAt(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* handle) const;
  };
  Database* database_ = nullptr;
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

// A transaction that ends with Commit. One that is destroyed before is rolled back. One at a time.
class Transaction {
 public:
  // Begins by a statement, such as "BEGIN".
  static absl::StatusOr<Transaction> Begin(Database& database, const char* sql);
  Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();

  absl::Status Commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}

  Database* database_;
};

// One connection, used by one thread. Errors are
//   kAborted            another process holds the lock
//   kResourceExhausted  the disk is full
//   kDataLoss           the file is corrupt or no database
//   kCancelled          told not to go on
//   kUnavailable        anything else (I/O errors, no permission)
// and begin with the name of the file.
class Database {
 public:
  // Opens the file at `path`, which must exist.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path);
  ~Database();

  // Until when a call may wait for another process's lock.
  void SetLockDeadline(std::chrono::steady_clock::time_point deadline) { lockDeadline_ = deadline; }

  // Runs statements without parameters and without rows that matter.
  absl::Status Execute(const char* sql);
  absl::StatusOr<Statement> Prepare(const char* sql);
  // The integer in the first column of the only row of `sql`.
  absl::StatusOr<int64_t> QueryInteger(const char* sql);

  // Asked again and again within calls, from now on: whether to go on. If not, the call returns kCancelled. Empty: not
  // asked any more.
  void SetMayGoOn(std::function<bool()> mayGoOn);

  // Rows that the last statement changed, and the number of the row it inserted.
  int64_t changes() const;
  int64_t lastInsertedRow() const;

  // The status of the last call that failed with `code`.
  absl::Status ErrorOf(int code) const;

 private:
  Database(std::string path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}
  static int WaitForLock(void* self, int attempt);
  static int AskToEnd(void* self);

  const std::string path_;
  sqlite3* const handle_;
  std::chrono::steady_clock::time_point lockDeadline_;
  std::function<bool()> mayGoOn_;
};

}  // namespace kveil::keys
