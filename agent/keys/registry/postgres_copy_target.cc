// How far the copy is, the rows say: they are added in the order of their keys, so the last key is the place. Until all
// are there, the format is one that no version of kveil opens.
#include "keys/registry/postgres_copy_target.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_schema.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {
namespace {

// A copy has time, but a server that never answers must not hold it up for ever.
constexpr std::chrono::minutes kPatience{5};
constexpr std::chrono::milliseconds kConnectPause{100};

constexpr char kAddRows[] = "kveil_copy_add";
constexpr char kClaim[] = "kveil_copy_claim";
constexpr char kFinishIdentity[] = "kveil_copy_identity";
constexpr char kFinishNumbers[] = "kveil_copy_numbers";

// Of the session, and of copies only: "kveil" as a number, and two more. Whoever was killed may leave the server at
// work on its last rows for a moment.
constexpr char kLockOut[] = "SELECT pg_advisory_lock(461547858286)";

std::string KeyOf(const CopiedTable& table, std::string_view separator) {
  std::vector<std::string> key;
  for (size_t i = 0; i < table.keySize; ++i) key.emplace_back(table.columns[i].to);
  return absl::StrJoin(key, ToAbsl(separator));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PostgresCopyTarget>> PostgresCopyTarget::Connect(PostgresOptions options,
                                                                                Deadline deadline) {
  std::unique_ptr<PostgresCopyTarget> target(new PostgresCopyTarget(std::move(options)));
  for (;;) {
    absl::StatusOr<std::unique_ptr<PostgresConnection>> connection = target->connector_.Connect(deadline);
    if (connection.ok()) {
      target->connection_ = *std::move(connection);
      break;
    }
    if (std::chrono::steady_clock::now() >= deadline) return connection.status();
    std::this_thread::sleep_for(kConnectPause);
  }
  const PostgresStatement begin[] = {PostgresStatement::Text(postgres::kBeginCopy), PostgresStatement::Text(kLockOut)};
  ASSIGN_OR_RETURN(const std::vector<PostgresResult> results, target->Call(begin));
  target->clockAhead_ = results.at(0).IntegerAt(0, 0) - absl::ToUnixMillis(absl::Now());
  return target;
}

absl::StatusOr<std::vector<PostgresResult>> PostgresCopyTarget::Call(absl::Span<const PostgresStatement> statements) {
  RETURN_IF_ERROR(connection_->Send(statements));
  ASSIGN_OR_RETURN(std::optional<std::vector<PostgresResult>> results,
                   connection_->Finish(std::chrono::steady_clock::now() + kPatience));
  if (!results.has_value()) return absl::UnavailableError(StrCat(name(), " does not answer"));
  return *std::move(results);
}

absl::StatusOr<PostgresCopyTarget::Content> PostgresCopyTarget::Look() {
  Content content;
  const PostgresStatement look[] = {
      PostgresStatement::Text("SELECT to_regnamespace('kveil') IS NOT NULL, EXISTS (SELECT FROM pg_class WHERE "
                              "relnamespace = to_regnamespace('kveil')), to_regclass('kveil.format') IS NOT NULL")};
  ASSIGN_OR_RETURN(const std::vector<PostgresResult> schema, Call(look));
  content.hasSchema = schema.at(0).BooleanAt(0, 0);
  if (!schema.at(0).BooleanAt(0, 1)) return content;
  content.state = State::kForeign;
  if (!schema.at(0).BooleanAt(0, 2)) return content;
  const PostgresStatement readFormat[] = {PostgresStatement::Text(postgres::kReadFormat)};
  ASSIGN_OR_RETURN(const std::vector<PostgresResult> format, Call(readFormat));
  if (format.at(0).size() != 1 || format.at(0).TextAt(0, 0) != postgres::kApplication) return content;
  const int64_t version = format.at(0).IntegerAt(0, 1);
  if (version == postgres::kUnfinishedFormat) {
    const PostgresStatement readToken[] = {PostgresStatement::Text("SELECT token, format FROM kveil.copy")};
    ASSIGN_OR_RETURN(const std::vector<PostgresResult> token, Call(readToken));
    if (token.at(0).size() != 1) return content;
    const Bytes bytes = token.at(0).BytesAt(0, 0);
    content.token.assign(bytes.begin(), bytes.end());
    content.isOfThisVersion = token.at(0).IntegerAt(0, 1) == postgres::kCopiedFormat;
    content.state = State::kUnfinished;
    return content;
  }
  if (version < 1 || version > postgres::kCopiedFormat) return content;
  const PostgresStatement readId[] = {PostgresStatement::Text("SELECT registry_id FROM kveil.registry")};
  ASSIGN_OR_RETURN(const std::vector<PostgresResult> id, Call(readId));
  content.state = State::kRegistry;
  RegistryId found{};
  if (id.at(0).size() == 1 && CopyTo(found, id.at(0).BytesAt(0, 0))) content.id = found;
  return content;
}

// An agent that makes an empty registry at the same moment holds the same lock. Whoever comes second finds tables.
absl::Status PostgresCopyTarget::Claim(const Content& content, Bytes token) {
  std::vector<PostgresStatement> statements;
  for (const char* sql : postgres::StatementsThatMake(/*withSchema=*/!content.hasSchema)) {
    if (sql == std::string_view(postgres::kCommit)) break;
    statements.push_back(PostgresStatement::Text(sql));
  }
  PostgresParameters parameters;
  parameters.Add(token).Add(int64_t{postgres::kCopiedFormat});
  // Behind the lock, before anything is made.
  statements.insert(
      statements.begin() + 2,
      PostgresStatement::Text("DO $$ BEGIN IF to_regclass('kveil.format') IS NOT NULL THEN"
                              " RAISE EXCEPTION 'another one has made a registry there'; END IF; END $$"));
  statements.push_back(PostgresStatement::Text(
      "CREATE TABLE kveil.copy (one boolean PRIMARY KEY DEFAULT true CHECK (one), token bytea NOT NULL,"
      " format bigint NOT NULL)"));
  statements.push_back(
      PostgresStatement::Prepare(kClaim, "INSERT INTO kveil.copy (token, format) VALUES ($1::bytea, $2::bigint)"));
  statements.push_back(PostgresStatement::Execute(kClaim, parameters));
  static_assert(postgres::kUnfinishedFormat == 0);
  statements.push_back(PostgresStatement::Text("UPDATE kveil.format SET version = 0"));
  statements.push_back(PostgresStatement::Text(postgres::kCommit));
  return Call(statements).status();
}

absl::StatusOr<std::vector<CopiedValue>> PostgresCopyTarget::ReadPlace(const CopiedTable& table) {
  const std::string sql = StrCat("SELECT ", KeyOf(table, ", "), " FROM kveil.", table.name, " ORDER BY ",
                                 KeyOf(table, " DESC, "), " DESC LIMIT 1");
  const PostgresStatement read[] = {PostgresStatement::Text(sql.c_str())};
  ASSIGN_OR_RETURN(const std::vector<PostgresResult> results, Call(read));
  std::vector<CopiedValue> place;
  if (results.at(0).size() == 0) return place;
  for (size_t i = 0; i < table.keySize; ++i) {
    const int column = static_cast<int>(i);
    if (IsBytes(table.columns[i])) {
      const Bytes bytes = results.at(0).BytesAt(0, column);
      place.emplace_back(ByteBuffer(bytes.begin(), bytes.end()));
    } else {
      place.emplace_back(results.at(0).IntegerAt(0, column));
    }
  }
  return place;
}

absl::StatusOr<uint64_t> PostgresCopyTarget::Count(const CopiedTable& table) {
  const std::string sql = StrCat("SELECT count(*) FROM kveil.", table.name);
  const PostgresStatement count[] = {PostgresStatement::Text(sql.c_str())};
  ASSIGN_OR_RETURN(const std::vector<PostgresResult> results, Call(count));
  return static_cast<uint64_t>(results.at(0).IntegerAt(0, 0));
}

// One array per column.
absl::Status PostgresCopyTarget::Prepare(const CopiedTable& table) {
  if (prepared_ == &table) return absl::OkStatus();
  std::vector<std::string> names, arrays, values;
  for (const CopiedColumn& column : table.columns) {
    names.emplace_back(column.to);
    arrays.push_back(StrCat("$", arrays.size() + 2, IsBytes(column) ? "::bytea[]" : "::bigint[]"));
    const bool isTime = column.type == CopiedColumn::Type::kTime;
    values.push_back(StrCat("n.", column.to, isTime ? " + ahead.millis" : ""));
  }
  const std::string columns = absl::StrJoin(names, ", ");
  const std::string sql = StrCat("INSERT INTO kveil.", table.name, " (", columns, ") OVERRIDING SYSTEM VALUE SELECT ",
                                 absl::StrJoin(values, ", "), " FROM (SELECT $1::bigint AS millis) AS ahead, unnest(",
                                 absl::StrJoin(arrays, ", "), ") AS n (", columns, ")");
  std::vector<PostgresStatement> statements;
  if (prepared_ != nullptr) statements.push_back(PostgresStatement::Text("DEALLOCATE kveil_copy_add"));
  statements.push_back(PostgresStatement::Prepare(kAddRows, sql.c_str()));
  RETURN_IF_ERROR(Call(statements).status());
  prepared_ = &table;
  return absl::OkStatus();
}

absl::Status PostgresCopyTarget::Add(const CopiedTable& table, absl::Span<const std::vector<CopiedValue>> rows) {
  RETURN_IF_ERROR(Prepare(table));
  PostgresParameters parameters;
  parameters.Add(clockAhead_);
  for (size_t i = 0; i < table.columns.size(); ++i) {
    std::vector<std::optional<Bytes>> bytes;
    std::vector<std::optional<int64_t>> integers;
    for (const std::vector<CopiedValue>& row : rows) {
      const bool isNull = std::holds_alternative<std::monostate>(row[i]);
      if (IsBytes(table.columns[i])) {
        bytes.push_back(isNull ? std::nullopt : std::optional<Bytes>(std::get<ByteBuffer>(row[i])));
      } else {
        integers.push_back(isNull ? std::nullopt : std::optional<int64_t>(std::get<int64_t>(row[i])));
      }
    }
    IsBytes(table.columns[i]) ? parameters.AddArray(bytes) : parameters.AddArray(integers);
  }
  const PostgresStatement add[] = {PostgresStatement::Execute(kAddRows, parameters)};
  return Call(add).status();
}

absl::Status PostgresCopyTarget::Finish(const Registry::Identity& identity, int64_t created, int64_t lastNumber) {
  PostgresParameters row, last;
  row.Add(identity.id).Add(identity.wrappedSecret).Add(created);
  last.Add(lastNumber);
  const std::string open = StrCat("UPDATE kveil.format SET version = ", postgres::kCopiedFormat);
  const PostgresStatement statements[] = {
      PostgresStatement::Text(postgres::kBegin),
      PostgresStatement::Prepare(kFinishIdentity,
                                 "INSERT INTO kveil.registry (one, registry_id, wrapped_secret, created)"
                                 " VALUES (true, $1::bytea, $2::bytea, $3::bigint)"),
      PostgresStatement::Execute(kFinishIdentity, row),
      PostgresStatement::Prepare(kFinishNumbers,
                                 "SELECT setval(pg_get_serial_sequence('kveil.erasures', 'number'),"
                                 " greatest($1::bigint, 1), $1::bigint > 0)"),
      PostgresStatement::Execute(kFinishNumbers, last),
      PostgresStatement::Text("DROP TABLE kveil.copy"),
      PostgresStatement::Text(open.c_str()),
      PostgresStatement::Text(postgres::kCommit)};
  return Call(statements).status();
}

}  // namespace kveil::keys
