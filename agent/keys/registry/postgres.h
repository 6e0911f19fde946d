// The little of libpq that the registry needs: a connection that never blocks beyond a deadline, with owners for its
// handles and statuses for its errors.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"

struct pg_conn;
struct pg_result;

namespace kveil::keys {

// The parameters of one statement, in PostgreSQL's binary format. An array has one element for each of many keys, so
// that they take one statement.
class PostgresParameters {
 public:
  PostgresParameters& Add(int64_t value);
  PostgresParameters& Add(Bytes value);
  PostgresParameters& AddArray(const std::vector<int64_t>& values);
  PostgresParameters& AddArray(const std::vector<Bytes>& values);
  // nullopt: NULL.
  PostgresParameters& AddArray(const std::vector<std::optional<int64_t>>& values);
  PostgresParameters& AddArray(const std::vector<std::optional<Bytes>>& values);

 private:
  friend class PostgresConnection;
  ByteBuffer& BeginArray(uint32_t elementType, size_t size);
  std::vector<ByteBuffer> values_;
};

// The rows that a statement returned. Rows and columns count from 0. Views are valid as long as the result.
class PostgresResult {
 public:
  explicit PostgresResult(pg_result* handle) : handle_(handle) {}

  size_t size() const;
  bool IsNull(size_t row, int column) const;
  int64_t IntegerAt(size_t row, int column) const;  // of a bigint
  bool BooleanAt(size_t row, int column) const;
  Bytes BytesAt(size_t row, int column) const;  // of a bytea or text
  std::string_view TextAt(size_t row, int column) const { return AsText(BytesAt(row, column)); }
  // What the server says that it did, such as "COMMIT".
  std::string_view tag() const;

 private:
  struct Clear {
    void operator()(pg_result* handle) const;
  };
  std::unique_ptr<pg_result, Clear> handle_;
};

// One statement of a call: a prepared one is executed by its name, with parameters; any other is given as text, and is
// prepared under its name if it has one.
struct PostgresStatement {
  const char* name = nullptr;
  const char* sql = nullptr;
  const PostgresParameters* parameters = nullptr;

  static PostgresStatement Text(const char* sql) { return {nullptr, sql, nullptr}; }
  static PostgresStatement Prepare(const char* name, const char* sql) { return {name, sql, nullptr}; }
  static PostgresStatement Execute(const char* name, const PostgresParameters& parameters) {
    return {name, nullptr, &parameters};
  }
};

// One connection, used by one thread. A call is a list of statements that take one round trip:
//
//   connection.Send(statements);
//   connection.Finish(deadline);   // nullopt: not answered yet; ask again
//
// Errors are
//   kAborted             another transaction was in the way, or the server gave up at its own time limit; nothing
//   changed kResourceExhausted   the server's disk is full; nothing changed kNotFound            a table or schema is
//   missing kPermissionDenied    the database user lacks a privilege kDataLoss            the server says that its
//   files are corrupt kUnavailable         anything else. The connection must not be used any more
//
// They never hold a parameter or a row's content.
class PostgresConnection {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  using Parameter = std::pair<std::string, std::string>;  // of libpq's connection string

  // Begins to connect to one server. `name` begins every error.
  static std::unique_ptr<PostgresConnection> Start(std::string name, absl::Span<const Parameter> parameters);
  ~PostgresConnection();

  // Goes on with connecting. False: the deadline came first; ask again.
  absl::StatusOr<bool> Connect(Deadline deadline);

  // Before the next Send, Finish must have returned the results or an error.
  absl::Status Send(absl::Span<const PostgresStatement> statements);
  // One result for each statement. nullopt: the deadline came first. After an error, what a transaction among the
  // statements had done is rolled back. kUnavailable also when the server warns: that a commit is not on its
  // synchronous standby, as somebody ended the wait for it, is a warning to PostgreSQL.
  absl::StatusOr<std::optional<std::vector<PostgresResult>>> Finish(Deadline deadline);

  // Of the server's process for this connection.
  int64_t backend() const;

  // Can be read when the server has sent something that no call has taken yet: a notification, or the connection's end.
  // The next call takes it.
  int descriptor() const;
  // Whether a notification came together with the answer to a call, since ForgetNotifications.
  bool isNotified() const { return isNotified_; }
  void ForgetNotifications();

 private:
  struct Close {
    void operator()(pg_conn* handle) const;
  };
  PostgresConnection(std::string name, pg_conn* handle) : name_(std::move(name)), handle_(handle) {}
  // Waits until the socket can be read, or also written. False: the deadline came first.
  bool Wait(bool toWrite, Deadline deadline) const;
  void TakeResult(pg_result* result);
  void TakeNotice(const pg_result* notice);
  absl::Status ConnectionError(std::string_view what) const;

  const std::string name_;
  std::unique_ptr<pg_conn, Close> handle_;
  std::vector<PostgresResult> results_;  // of the call under way
  absl::Status error_;                   // the first of the call under way
  bool isWarned_ = false;                // in the call under way
  bool isNotified_ = false;
  bool finished_ = true;
  bool rollingBack_ = false;
};

}  // namespace kveil::keys
