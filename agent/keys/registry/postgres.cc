// libpq behind owners and statuses. Always in pipeline mode: the statements of a call leave together, and its answers
// come together.
#include "keys/registry/postgres.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

// pg_type.dat
constexpr uint32_t kBytea = 17;
constexpr uint32_t kBigint = 20;

constexpr int kBinary = 1;
constexpr uint32_t kNull = 0xffffffff;  // the size of an array's element that is NULL

template <typename Unsigned>
void AppendBigEndian(ByteBuffer& buffer, Unsigned value) {
  for (int shift = 8 * (sizeof(value) - 1); shift >= 0; shift -= 8) {
    buffer.push_back(static_cast<uint8_t>(value >> shift));
  }
}

void Append32(ByteBuffer& buffer, uint32_t value) { AppendBigEndian(buffer, value); }
void Append64(ByteBuffer& buffer, int64_t value) { AppendBigEndian(buffer, static_cast<uint64_t>(value)); }

// libpq's messages end in a line break, and have several lines when several addresses were tried.
std::string OneLine(const char* message) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(message == nullptr ? "" : message);
  return absl::StrReplaceAll(trimmed, {{"\n\t", " "}, {"\n", "; "}});
}

// By SQLSTATE (appendix A of PostgreSQL's manual). Only the primary message is passed on: the details of a message may
// hold a row's content.
absl::Status ErrorOf(const std::string& name, const PGresult* result) {
  const char* field = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const std::string_view state = field == nullptr ? "" : field;
  const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const std::string message = primary != nullptr ? OneLine(primary) : OneLine(PQresultErrorMessage(result));
  const std::string reason = StrCat(" (", message, state.empty() ? "" : ", SQLSTATE ", state, ")");
  if (state == "40001" || state == "40P01" || state == "55P03") {
    return absl::AbortedError(StrCat(name, " is locked by another agent", reason));
  }
  if (state == "57014") return absl::AbortedError(StrCat(name, " took too long", reason));
  if (state == "53100") return absl::ResourceExhaustedError(StrCat(name, " cannot grow: the server's disk is full"));
  if (state == "42P01" || state == "42703" || state == "3F000") {
    return absl::NotFoundError(StrCat(name, " does not have its tables", reason));
  }
  if (state == "42501") {
    return absl::PermissionDeniedError(StrCat(name, " does not let its database user do this", reason));
  }
  if (state == "25006") {
    return absl::UnavailableError(StrCat(name,
                                         " cannot be written: the server is a read-only standby, or its default "
                                         "is read-only transactions",
                                         reason));
  }
  if (state == "XX001" || state == "XX002") {
    return absl::DataLossError(StrCat(name, " is corrupt", reason, "; restore it from a backup"));
  }
  return absl::UnavailableError(StrCat(name, " cannot be used", reason));
}

// Whether there was one.
bool TakeNotifications(PGconn* connection) {
  bool isAny = false;
  while (PGnotify* const notification = PQnotifies(connection)) {
    PQfreemem(notification);
    isAny = true;
  }
  return isAny;
}

}  // namespace

PostgresParameters& PostgresParameters::Add(int64_t value) {
  Append64(values_.emplace_back(), value);
  return *this;
}

PostgresParameters& PostgresParameters::Add(Bytes value) {
  Append(values_.emplace_back(), value);
  return *this;
}

// array_recv in PostgreSQL's arrayfuncs.c: dimensions, whether there are nulls (which it finds out itself), element
// type, then size and lower bound of each dimension.
ByteBuffer& PostgresParameters::BeginArray(uint32_t elementType, size_t size) {
  ByteBuffer& buffer = values_.emplace_back();
  Append32(buffer, size == 0 ? 0 : 1);
  Append32(buffer, 0);
  Append32(buffer, elementType);
  if (size == 0) return buffer;
  Append32(buffer, static_cast<uint32_t>(size));
  Append32(buffer, 1);
  return buffer;
}

PostgresParameters& PostgresParameters::AddArray(const std::vector<int64_t>& values) {
  ByteBuffer& buffer = BeginArray(kBigint, values.size());
  for (int64_t value : values) {
    Append32(buffer, 8);
    Append64(buffer, value);
  }
  return *this;
}

PostgresParameters& PostgresParameters::AddArray(const std::vector<Bytes>& values) {
  ByteBuffer& buffer = BeginArray(kBytea, values.size());
  for (Bytes value : values) {
    Append32(buffer, static_cast<uint32_t>(value.size()));
    Append(buffer, value);
  }
  return *this;
}

PostgresParameters& PostgresParameters::AddArray(const std::vector<std::optional<int64_t>>& values) {
  ByteBuffer& buffer = BeginArray(kBigint, values.size());
  for (const std::optional<int64_t>& value : values) {
    Append32(buffer, value.has_value() ? 8 : kNull);
    if (value.has_value()) Append64(buffer, *value);
  }
  return *this;
}

PostgresParameters& PostgresParameters::AddArray(const std::vector<std::optional<Bytes>>& values) {
  ByteBuffer& buffer = BeginArray(kBytea, values.size());
  for (const std::optional<Bytes>& value : values) {
    Append32(buffer, value.has_value() ? static_cast<uint32_t>(value->size()) : kNull);
    if (value.has_value()) Append(buffer, *value);
  }
  return *this;
}

void PostgresResult::Clear::operator()(pg_result* handle) const { PQclear(handle); }

size_t PostgresResult::size() const { return static_cast<size_t>(PQntuples(handle_.get())); }

bool PostgresResult::IsNull(size_t row, int column) const {
  return PQgetisnull(handle_.get(), static_cast<int>(row), column) != 0;
}

Bytes PostgresResult::BytesAt(size_t row, int column) const {
  const int line = static_cast<int>(row);
  return Bytes(reinterpret_cast<const uint8_t*>(PQgetvalue(handle_.get(), line, column)),
               static_cast<size_t>(PQgetlength(handle_.get(), line, column)));
}

int64_t PostgresResult::IntegerAt(size_t row, int column) const {
  uint64_t value = 0;
  for (uint8_t byte : BytesAt(row, column)) value = value << 8 | byte;
  return static_cast<int64_t>(value);
}

bool PostgresResult::BooleanAt(size_t row, int column) const {
  const Bytes bytes = BytesAt(row, column);
  return bytes.size() == 1 && bytes[0] != 0;
}

std::string_view PostgresResult::tag() const { return PQcmdStatus(handle_.get()); }

void PostgresConnection::Close::operator()(pg_conn* handle) const { PQfinish(handle); }

std::unique_ptr<PostgresConnection> PostgresConnection::Start(std::string name,
                                                              absl::Span<const Parameter> parameters) {
  std::vector<const char*> keywords;
  std::vector<const char*> values;
  for (const auto& [keyword, value] : parameters) {
    keywords.push_back(keyword.c_str());
    values.push_back(value.c_str());
  }
  keywords.push_back(nullptr);
  values.push_back(nullptr);
  PGconn* handle = PQconnectStartParams(keywords.data(), values.data(), /*expand_dbname=*/0);
  std::unique_ptr<PostgresConnection> connection(new PostgresConnection(std::move(name), handle));
  // The default writes to stderr.
  if (handle != nullptr) {
    PQsetNoticeReceiver(
        handle, [](void* self, const PGresult* notice) { static_cast<PostgresConnection*>(self)->TakeNotice(notice); },
        connection.get());
  }
  return connection;
}

PostgresConnection::~PostgresConnection() = default;

absl::Status PostgresConnection::ConnectionError(std::string_view what) const {
  return absl::UnavailableError(StrCat(name_, " ", what, ": ", OneLine(PQerrorMessage(handle_.get()))));
}

bool PostgresConnection::Wait(bool toWrite, Deadline deadline) const {
  pollfd entry{PQsocket(handle_.get()), static_cast<int16_t>(toWrite ? POLLIN | POLLOUT : POLLIN), 0};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    const int ready = poll(&entry, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 60'000)));
    if (ready > 0) return true;
    if (left <= 0) return false;
  }
}

absl::StatusOr<bool> PostgresConnection::Connect(Deadline deadline) {
  if (handle_ == nullptr) return absl::UnavailableError(StrCat(name_, " cannot be reached: out of memory"));
  if (PQstatus(handle_.get()) == CONNECTION_BAD) return ConnectionError("cannot be reached");
  // PQconnectStart: until told otherwise, behave as if PQconnectPoll had asked to write.
  for (PostgresPollingStatusType next = PGRES_POLLING_WRITING;;) {
    if (!Wait(next == PGRES_POLLING_WRITING, deadline)) return false;
    next = PQconnectPoll(handle_.get());
    if (next == PGRES_POLLING_FAILED) return ConnectionError("cannot be reached");
    if (next == PGRES_POLLING_OK) break;
  }
  if (PQsetnonblocking(handle_.get(), 1) != 0 || PQenterPipelineMode(handle_.get()) != 1) {
    return ConnectionError("cannot be used");
  }
  return true;
}

absl::Status PostgresConnection::Send(absl::Span<const PostgresStatement> statements) {
  PGconn* const connection = handle_.get();
  results_.clear();
  error_ = absl::OkStatus();
  isWarned_ = false;
  finished_ = false;
  rollingBack_ = false;
  bool sent = true;
  for (const PostgresStatement& statement : statements) {
    if (statement.parameters != nullptr) {
      const std::vector<ByteBuffer>& given = statement.parameters->values_;
      std::vector<const char*> values;
      std::vector<int> lengths;
      for (const ByteBuffer& value : given) {
        // A null pointer would be NULL.
        values.push_back(value.empty() ? "" : reinterpret_cast<const char*>(value.data()));
        lengths.push_back(static_cast<int>(value.size()));
      }
      const std::vector<int> formats(given.size(), kBinary);
      sent = sent && PQsendQueryPrepared(connection, statement.name, static_cast<int>(given.size()), values.data(),
                                         lengths.data(), formats.data(), kBinary) == 1;
    } else if (statement.name != nullptr) {
      sent = sent && PQsendPrepare(connection, statement.name, statement.sql, 0, nullptr) == 1;
    } else {
      sent = sent && PQsendQueryParams(connection, statement.sql, 0, nullptr, nullptr, nullptr, nullptr, kBinary) == 1;
    }
  }
  if (sent && PQpipelineSync(connection) == 1) return absl::OkStatus();
  return ConnectionError("cannot be used");
}

int64_t PostgresConnection::backend() const { return PQbackendPID(handle_.get()); }

int PostgresConnection::descriptor() const { return PQsocket(handle_.get()); }

void PostgresConnection::TakeResult(pg_result* result) {
  PostgresResult owner(result);
  switch (PQresultStatus(result)) {
    case PGRES_PIPELINE_SYNC:
      finished_ = true;
      return;
    case PGRES_PIPELINE_ABORTED:
      return;
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
      results_.push_back(std::move(owner));
      return;
    default:
      if (error_.ok()) error_ = ErrorOf(name_, result);
  }
}

// SyncRepWaitForLSN in PostgreSQL's syncrep.c gives warnings without a code of their own.
void PostgresConnection::TakeNotice(const pg_result* notice) {
  const char* const severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
  const char* const state = PQresultErrorField(notice, PG_DIAG_SQLSTATE);
  if (severity == nullptr || state == nullptr) return;
  if (std::string_view(severity) == "WARNING" && std::string_view(state) == "01000") isWarned_ = true;
}

void PostgresConnection::ForgetNotifications() {
  (void)PQconsumeInput(handle_.get());  // whether it works, the next call finds out
  (void)TakeNotifications(handle_.get());
  isNotified_ = false;
}

absl::StatusOr<std::optional<std::vector<PostgresResult>>> PostgresConnection::Finish(Deadline deadline) {
  PGconn* const connection = handle_.get();
  for (;;) {
    const int unsent = PQflush(connection);
    if (unsent < 0 || PQconsumeInput(connection) == 0) return ConnectionError("is out of reach");
    isNotified_ |= TakeNotifications(connection);
    while (!finished_ && PQisBusy(connection) == 0) {
      PGresult* const result = PQgetResult(connection);
      // Null is the end of one statement's results, or all that a lost connection has.
      if (result != nullptr) TakeResult(result);
      if (result == nullptr && PQstatus(connection) == CONNECTION_BAD) return ConnectionError("is out of reach");
    }
    if (PQstatus(connection) == CONNECTION_BAD) return ConnectionError("is out of reach");
    if (finished_ && PQtransactionStatus(connection) == PQTRANS_INERROR && !rollingBack_) {
      rollingBack_ = true;
      finished_ = false;
      if (PQsendQueryParams(connection, "ROLLBACK", 0, nullptr, nullptr, nullptr, nullptr, kBinary) != 1 ||
          PQpipelineSync(connection) != 1) {
        return ConnectionError("is out of reach");
      }
      continue;
    }
    if (finished_) break;
    if (!Wait(unsent > 0, deadline)) return std::nullopt;
  }
  if (!error_.ok()) return error_;
  if (isWarned_) {
    return absl::UnavailableError(
        StrCat(name_, " warns about what it has committed: it may not be on its synchronous standby; ask again"));
  }
  return std::move(results_);
}

}  // namespace kveil::keys
