// Why two agents never disagree. All keys are made by InsertOrGet, whose transaction holds an advisory lock shared;
// EraseUsers holds the same lock alone. PostgreSQL lets a transaction's locks go only after what it has written can be
// seen. A statement at READ COMMITTED sees all that was committed before it began, so the lock is a statement of its
// own before those that look. Therefore
//
// - an erasure sees every key that was made before it, by any agent, and every keyspace: it destroys them all. A key
//   that is made after it finds the erasure, and is inserted as an erased one. There is nothing in between.
// - erasures, and changes of what is known of users, which hold the lock alone as well, get their numbers one after the
//   other, each after all lower ones can be seen. So a poll that sees number n sees all that are lower, and none is
//   missed by asking for those above n. Gaps mean nothing.
// - a turn of the epochs holds the lock alone when it changes which epoch is in use: a key that is made after that and
// is
//   of another epoch is not inserted. While rows are rewrapped, the lock is shared, so no row is erased at that moment.
// - agents that make keys at the same moment do not wait for each other, but for one name: the unique index lets one of
//   them insert it, the others find that one's row in the statement after. They insert in the order of the names, so
//   they cannot wait crosswise.
#include "keys/registry/postgres_registry.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_schema.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {
namespace {

// How long an answer may be outstanding before the connection is given up. Longer than a call usually may wait.
constexpr std::chrono::seconds kPatience{3};

ByteBuffer CopyOf(Bytes bytes) { return ByteBuffer(bytes.begin(), bytes.end()); }

absl::Status AsUnavailable(const absl::Status& status) { return absl::UnavailableError(status.message()); }

}  // namespace

absl::StatusOr<std::unique_ptr<Registry>> PostgresRegistry::Open(PostgresOptions options, int64_t mostKeylessErasures,
                                                                 bool mustExist, Deadline deadline) {
  std::unique_ptr<PostgresRegistry> registry(new PostgresRegistry(std::move(options), mostKeylessErasures));
  registry->SetDeadline(deadline);
  RETURN_IF_ERROR(registry->Advance(mustExist));
  return registry;
}

PostgresRegistry::PostgresRegistry(PostgresOptions options, int64_t mostKeylessErasures)
    : connector_(options), epochIndex_(std::move(options)), keylessErasures_(mostKeylessErasures) {}
PostgresRegistry::~PostgresRegistry() = default;

absl::Status PostgresRegistry::EnsureOpen() {
  if (connection_ != nullptr && !broken_ && step_ == Step::kNone) return absl::OkStatus();
  const absl::Status status = Advance(/*mustExist=*/true);
  return status.ok() ? status : AsUnavailable(status);
}

absl::Status PostgresRegistry::Advance(bool mustExist) {
  if (broken_) GiveUp();
  if (connection_ == nullptr) {
    ASSIGN_OR_RETURN(connection_, connector_.Connect(deadline_));
    broken_ = false;
    const PostgresStatement begin[] = {PostgresStatement::Text(postgres::kBeginSession)};
    RETURN_IF_ERROR(Send(Step::kSession, begin));
  }
  while (step_ != Step::kNone) {
    absl::StatusOr<std::optional<Results>> results = connection_->Finish(deadline_);
    if (results.ok() && !results->has_value()) {
      if (std::chrono::steady_clock::now() - stepBegan_ > kPatience) broken_ = true;
      return absl::UnavailableError(StrCat(name(), " does not answer"));
    }
    const Step step = std::exchange(step_, Step::kNone);
    if (results.ok()) {
      RETURN_IF_ERROR(TakeAnswer(step, **results, mustExist));
    } else if (step != Step::kPoll && step != Step::kWrite && step != Step::kOther) {
      return FailToOpen(results.status());
    } else {
      (void)Fail(results.status());
      if (broken_) return AsUnavailable(results.status());
    }
  }
  return absl::OkStatus();
}

absl::Status PostgresRegistry::Send(Step step, absl::Span<const PostgresStatement> statements) {
  step_ = step;
  stepBegan_ = std::chrono::steady_clock::now();
  absl::Status status = connection_->Send(statements);
  if (!status.ok()) broken_ = true;
  return status;
}

absl::Status PostgresRegistry::FailToOpen(const absl::Status& status) {
  broken_ = true;
  step_ = Step::kNone;
  if (absl::IsPermissionDenied(status)) {
    return absl::FailedPreconditionError(
        StrCat(ToStd(status.message()), "; it needs CREATE on the database, or to own the schema kveil"));
  }
  if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status)) return status;
  return AsUnavailable(status);
}

absl::Status PostgresRegistry::TakeAnswer(Step step, const Results& results, bool mustExist) {
  absl::Status status;
  switch (step) {
    case Step::kSession:
      status = TakeSession(results.at(0), mustExist);
      break;
    case Step::kMake:
    case Step::kMigrate: {
      // Another agent may have been quicker, and of another version.
      const PostgresStatement read[] = {PostgresStatement::Text(postgres::kReadFormat)};
      status = Send(Step::kFormat, read);
      break;
    }
    case Step::kFormat:
      status = TakeFormat(results.at(0));
      break;
    case Step::kPrepare:
      status = TakePrepared(results);
      break;
    case Step::kPoll:
      return TakeNews(results.at(0));
    case Step::kWrite:
    case Step::kOther:
    case Step::kNone:
      return absl::OkStatus();  // whoever asked was told that there was no answer
  }
  return status.ok() ? status : FailToOpen(status);
}

absl::Status PostgresRegistry::TakeSession(const PostgresResult& session, bool mustExist) {
  const bool hasSchema = session.BooleanAt(0, 0);
  const bool hasContent = session.BooleanAt(0, 1);
  if (session.BooleanAt(0, 2)) {
    const PostgresStatement read[] = {PostgresStatement::Text(postgres::kReadFormat)};
    return Send(Step::kFormat, read);
  }
  if (hasContent) {
    return absl::FailedPreconditionError(
        StrCat(name(), " has a schema kveil that is something else's; give kveil a database of its own"));
  }
  if (mustExist) return absl::NotFoundError(StrCat(name(), " is missing: the database holds no registry"));
  std::vector<PostgresStatement> make;
  for (const char* sql : postgres::StatementsThatMake(/*withSchema=*/!hasSchema)) {
    make.push_back(PostgresStatement::Text(sql));
  }
  return Send(Step::kMake, make);
}

absl::Status PostgresRegistry::TakeFormat(const PostgresResult& format) {
  if (format.size() != 1 || format.TextAt(0, 0) != postgres::kApplication) {
    return absl::FailedPreconditionError(StrCat(name(), " is a database of something else"));
  }
  const int64_t version = format.IntegerAt(0, 1);
  if (version >= 1 && version < postgres::kFormat) {
    log::Info("keys.registry.migrated", {{"registry", name()}, {"from", version}, {"to", postgres::kFormat}});
    std::vector<PostgresStatement> migrate;
    for (const char* sql : postgres::StatementsThatMigrate()) migrate.push_back(PostgresStatement::Text(sql));
    return Send(Step::kMigrate, migrate);
  }
  if (version == postgres::kUnfinishedFormat) {
    return absl::FailedPreconditionError(
        StrCat(name(), " is not whole yet: a registry is being copied there; finish that by `kveil registry copy`"));
  }
  if (version != postgres::kFormat && version != postgres::kCopiedFormat) {
    return absl::FailedPreconditionError(StrCat(name(), " has format ", version, "; this version of kveil knows only ",
                                                postgres::kFormat, " and ", postgres::kCopiedFormat,
                                                ": use the version that made it, or a later one"));
  }
  std::vector<PostgresStatement> prepare;
  for (const postgres::Prepared& statement : postgres::kPrepared) {
    prepare.push_back(PostgresStatement::Prepare(statement.name, statement.sql));
  }
  static const PostgresParameters kNone;
  static const PostgresParameters kNoNews = std::move(PostgresParameters().Add(std::numeric_limits<int64_t>::max()));
  prepare.push_back(PostgresStatement::Execute(postgres::kReadIdentity, kNone));
  prepare.push_back(PostgresStatement::Text(postgres::kListen));
  prepare.push_back(PostgresStatement::Execute(postgres::kPoll, kNoNews));
  return Send(Step::kPrepare, prepare);
}

absl::Status PostgresRegistry::TakePrepared(const Results& results) {
  const std::optional<RegistryId> before = id_;
  ASSIGN_OR_RETURN(const std::optional<Identity> identity, TakeIdentity(results.at(postgres::kPrepared.size())));
  if (before.has_value() && id_ != before) {
    id_ = before;
    return absl::UnavailableError(StrCat(name(), " was replaced by another registry; restore it, or restart kveil"));
  }
  const PostgresResult& poll = results.back();
  erasuresFile_ = poll.IntegerAt(0, 0);
  lastNumber_ = poll.IntegerAt(0, 1);
  toldNumber_ = lastNumber_;
  news_ = {};
  backend_ = connection_->backend();
  ++openings_;
  connector_.NoteGood();
  return absl::OkStatus();
}

absl::StatusOr<PostgresRegistry::Results> PostgresRegistry::Call(absl::Span<const PostgresStatement> statements,
                                                                 Step step) {
  if (connection_ == nullptr || broken_ || step_ != Step::kNone) {
    return absl::UnavailableError(StrCat(name(), " is not open"));
  }
  RETURN_IF_ERROR(Send(step, statements));
  absl::StatusOr<std::optional<Results>> results = connection_->Finish(deadline_);
  if (results.ok() && !results->has_value()) {
    return absl::UnavailableError(StrCat(name(), " does not answer in time"));
  }
  if (absl::IsUnavailable(results.status())) NoteLeftBehind();
  step_ = Step::kNone;
  if (!results.ok()) return results.status();
  return **std::move(results);
}

absl::StatusOr<PostgresRegistry::Results> PostgresRegistry::Read(const char* statement,
                                                                 const PostgresParameters& parameters) {
  const PostgresStatement read[] = {PostgresStatement::Execute(statement, parameters)};
  absl::StatusOr<Results> results = Call(read);
  if (!results.ok()) return Fail(results.status());
  return results;
}

absl::Status PostgresRegistry::Fail(const absl::Status& status) {
  // The others tell of one statement, and leave the connection as it was.
  if (absl::IsUnavailable(status) && step_ == Step::kNone) broken_ = true;
  if (absl::IsNotFound(status)) broken_ = true;  // the tables were there when it was opened
  return AsUnavailable(status);
}

absl::Status PostgresRegistry::Corrupt(std::string_view what) const {
  return absl::DataLossError(StrCat(name(), " is corrupt: ", what));
}

absl::StatusOr<std::optional<Registry::Identity>> PostgresRegistry::TakeIdentity(const PostgresResult& result) {
  id_.reset();
  if (result.size() == 0) return std::nullopt;
  Identity identity;
  identity.wrappedSecret = CopyOf(result.BytesAt(0, 1));
  if (!CopyTo(identity.id, result.BytesAt(0, 0))) return Corrupt("its id is malformed");
  id_ = identity.id;
  return identity;
}

absl::StatusOr<std::optional<Registry::Identity>> PostgresRegistry::ReadIdentity() {
  const PostgresParameters none;
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadIdentity, none));
  absl::StatusOr<std::optional<Identity>> identity = TakeIdentity(results.at(0));
  if (!identity.ok()) return Fail(identity.status());
  return identity;
}

absl::Status PostgresRegistry::Initialise(const Identity& identity, const Epoch& first, absl::Time now) {
  PostgresParameters addIdentity;
  addIdentity.Add(identity.id).Add(identity.wrappedSecret).Add(absl::ToUnixMillis(now));
  PostgresParameters addEpoch;
  addEpoch.Add(identity.id).Add(first.number).Add(first.wrappedKey).Add(absl::ToUnixMillis(now));
  const PostgresParameters none;
  const PostgresStatement statements[] = {PostgresStatement::Execute(postgres::kAddIdentity, addIdentity),
                                          PostgresStatement::Execute(postgres::kAddFirstEpoch, addEpoch),
                                          PostgresStatement::Execute(postgres::kReadIdentity, none)};
  absl::StatusOr<Results> results = Transact(postgres::kLock, statements);
  if (!results.ok()) return Fail(results.status());
  absl::StatusOr<std::optional<Identity>> made = TakeIdentity(results->at(2));
  if (!made.ok()) return Fail(made.status());
  if (id_ == identity.id) log::Info("keys.registry.made", {{"registry", name()}});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Registry::Found>> PostgresRegistry::FindMany(absl::Span<const RowName> names) {
  const auto parameters = [names](size_t first, size_t count) {
    std::vector<Bytes> subjects;
    std::vector<int64_t> windows;
    for (const RowName& name : names.subspan(first, count)) {
      subjects.emplace_back(name.subject);
      windows.push_back(name.window);
    }
    return std::move(PostgresParameters().AddArray(subjects).AddArray(windows));
  };
  return Find(names.size(), parameters, postgres::kFindByName);
}

absl::StatusOr<std::vector<Registry::Found>> PostgresRegistry::FindManyById(absl::Span<const crypto::KeyId> ids) {
  const auto parameters = [ids](size_t first, size_t count) {
    std::vector<Bytes> bytes;
    for (const crypto::KeyId& id : ids.subspan(first, count)) bytes.emplace_back(id.bytes);
    return std::move(PostgresParameters().AddArray(bytes));
  };
  return Find(ids.size(), parameters, postgres::kFindById);
}

// Columns as in postgres_schema.cc: the number of the question, and the row.
absl::Status PostgresRegistry::TakeRows(const PostgresResult& result, absl::Span<Found> rows) const {
  for (size_t i = 0; i < result.size(); ++i) {
    const auto number = static_cast<size_t>(result.IntegerAt(i, 0)) - 1;
    if (number >= rows.size()) return Corrupt("an index is wrong");
    Row row;
    row.scope = static_cast<Scope>(result.IntegerAt(i, 2));
    row.name.window = result.IntegerAt(i, 4);
    row.epoch = result.IntegerAt(i, 5);
    row.erased = result.IntegerAt(i, 6) == kErased;
    row.wrappedKey = CopyOf(result.BytesAt(i, 7));
    row.facts = result.TextAt(i, 8);
    const bool wellFormed =
        CopyTo(row.id.bytes, result.BytesAt(i, 1)) && CopyTo(row.name.subject, result.BytesAt(i, 3));
    rows[number] = wellFormed ? Found(std::move(row)) : Found(Corrupt("a row is malformed"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Registry::Found>> PostgresRegistry::Find(
    size_t count, absl::FunctionRef<PostgresParameters(size_t, size_t)> parameters, const char* statement) {
  std::vector<Found> rows(count, std::optional<Row>());
  if (count == 0) return rows;
  const auto read = [&](size_t first, size_t size) -> absl::Status {
    const PostgresParameters some = parameters(first, size);
    const PostgresStatement find[] = {PostgresStatement::Execute(statement, some)};
    ASSIGN_OR_RETURN(const Results results, Call(find));
    return TakeRows(results.at(0), absl::MakeSpan(rows).subspan(first, size));
  };
  absl::Status status = read(0, count);
  // A damaged page fails the statement that meets it. One by one, the others' rows are found.
  if (absl::IsDataLoss(status) && count > 1) {
    for (size_t i = 0; i < count; ++i) {
      status = read(i, 1);
      if (absl::IsDataLoss(status)) rows[i] = std::exchange(status, absl::OkStatus());
      if (!status.ok()) break;
    }
  } else if (absl::IsDataLoss(status)) {
    rows[0] = std::exchange(status, absl::OkStatus());
  }
  if (!status.ok()) return Fail(status);
  return rows;
}

absl::StatusOr<std::vector<Registry::Inserted>> PostgresRegistry::InsertOrGet(absl::Span<const NewRow> rows,
                                                                              absl::Time now) {
  std::vector<Inserted> inserted(rows.size());
  if (rows.empty()) return inserted;
  std::vector<Bytes> ids, subjects, wrappedKeys, keyspaces;
  std::vector<int64_t> scopes, windows, epochs;
  for (const NewRow& row : rows) {
    ids.emplace_back(row.row.id.bytes);
    scopes.push_back(static_cast<int64_t>(row.row.scope));
    subjects.emplace_back(row.row.name.subject);
    windows.push_back(row.row.name.window);
    epochs.push_back(row.row.epoch);
    wrappedKeys.emplace_back(row.row.wrappedKey);
    if (row.row.scope != Scope::kUser) continue;
    // Nearly always the same.
    if (keyspaces.empty() || AsText(keyspaces.back()) != row.keyspace) keyspaces.push_back(AsBytes(row.keyspace));
  }
  PostgresParameters addKeyspaces, insert, find;
  const PostgresParameters none;
  addKeyspaces.AddArray(keyspaces);
  insert.AddArray(ids).AddArray(scopes).AddArray(subjects).AddArray(windows).AddArray(epochs).AddArray(wrappedKeys);
  insert.Add(absl::ToUnixMillis(now));
  find.AddArray(subjects).AddArray(windows);
  const PostgresStatement statements[] = {PostgresStatement::Execute(postgres::kAddKeyspaces, addKeyspaces),
                                          PostgresStatement::Execute(postgres::kInsert, insert),
                                          PostgresStatement::Execute(postgres::kFindByName, find),
                                          PostgresStatement::Execute(postgres::kEpochInUse, none)};
  absl::StatusOr<Results> results = Transact(postgres::kLockShared, statements);
  if (!results.ok()) return Fail(results.status());
  std::vector<Found> found(rows.size(), std::optional<Row>());
  if (absl::Status status = TakeRows(results->at(2), absl::MakeSpan(found)); !status.ok()) return Fail(status);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!found[i].ok()) return Fail(found[i].status());
    if (!found[i]->has_value()) {
      const bool isStale = rows[i].row.epoch != results->at(3).IntegerAt(0, 0);
      inserted[i].state = isStale ? Inserted::State::kStale : Inserted::State::kErased;
    } else if ((*found[i])->id != rows[i].row.id) {
      inserted[i] = {Inserted::State::kExists, *std::move(found[i])};
    } else {
      inserted[i].facts = std::move((*found[i])->facts);
    }
  }
  return inserted;
}

}  // namespace kveil::keys
