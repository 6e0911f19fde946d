// Each call is one transaction.
#include "keys/registry/sqlite_registry.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

// Users that are erased in one transaction, for which new keys wait.
constexpr size_t kMostUsersOfAStep = 64;
// How long an orderly end may wait for another process to let go of the log.
constexpr std::chrono::milliseconds kCloseTimeout{50};

}  // namespace

absl::StatusOr<std::unique_ptr<Registry>> SqliteRegistry::Open(Options options, bool mustExist, Deadline deadline) {
  std::unique_ptr<SqliteRegistry> registry(new SqliteRegistry(std::move(options)));
  registry->SetDeadline(deadline);
  if (absl::Status status = registry->OpenFile(mustExist); !status.ok()) return status;
  return registry;
}

SqliteRegistry::SqliteRegistry(Options options)
    : options_(std::move(options)),
      name_(StrCat("registry ", options_.path)),
      keylessErasures_(options_.mostKeylessErasures) {}

// Closing leaves the log as it is. After an orderly end the file alone is to be the whole registry.
SqliteRegistry::~SqliteRegistry() {
  if (openings_ == 0) return;
  SetDeadline(std::chrono::steady_clock::now() + kCloseTimeout);
  if (EnsureOpen().ok()) (void)PurgeErased();
}

void SqliteRegistry::SetDeadline(Deadline deadline) {
  deadline_ = deadline;
  if (tables_ != nullptr) tables_->SetLockDeadline(deadline);
}

absl::Status SqliteRegistry::OpenFile(bool mustExist) {
  // It takes minutes, for which everything would wait once the registry is in use.
  const SqliteTables::Migrating migrating{options_.mayWait, options_.freeBytes, /*isRefused=*/openings_ > 0};
  absl::StatusOr<std::unique_ptr<SqliteTables>> tables =
      mustExist ? SqliteTables::OpenExisting(options_.path, deadline_, migrating)
                : SqliteTables::OpenOrCreate(options_.path, deadline_, migrating);
  if (!tables.ok()) return Fail(tables.status());
  tables_ = *std::move(tables);
  broken_ = false;
  absl::StatusOr<int64_t> last = tables_->ReadLastNumber();
  if (!last.ok()) return Fail(last.status());
  lastNumber_ = *last;
  ++openings_;
  return absl::OkStatus();
}

absl::Status SqliteRegistry::EnsureOpen() {
  if (tables_ != nullptr && !broken_ && tables_->FileIsInPlace()) return absl::OkStatus();
  tables_.reset();
  absl::Status opened = OpenAgain();
  // What was opened and not looked at may be another registry, or hold erasures that nobody heard of.
  if (!opened.ok()) tables_.reset();
  return opened;
}

absl::Status SqliteRegistry::OpenAgain() {
  if (absl::Status status = OpenFile(/*mustExist=*/true); !status.ok()) {
    return absl::UnavailableError(status.message());
  }
  const std::optional<RegistryId> before = id_;
  absl::StatusOr<std::optional<Identity>> identity = ReadIdentity();
  if (!identity.ok()) return identity.status();
  if (before.has_value() && id_ != before) {
    id_ = before;
    return Fail(
        absl::UnavailableError(StrCat(name_, " was replaced by another registry; restore it, or restart kveil")));
  }
  return absl::OkStatus();
}

absl::Status SqliteRegistry::Fail(const absl::Status& status) {
  // A lock and a full disk pass by themselves. Anything else may be cured by a new connection.
  // Only marked here: a transaction may still stand on this one.
  if (!absl::IsAborted(status) && !absl::IsResourceExhausted(status)) broken_ = true;
  if (absl::IsFailedPrecondition(status) || absl::IsNotFound(status) || absl::IsCancelled(status)) return status;
  return absl::UnavailableError(status.message());
}

absl::StatusOr<std::optional<Registry::Identity>> SqliteRegistry::ReadIdentity() {
  absl::StatusOr<std::optional<Identity>> identity = tables_->ReadIdentity();
  if (!identity.ok()) return Fail(identity.status());
  if (identity->has_value()) {
    id_ = (*identity)->id;
  } else {
    id_.reset();
  }
  return identity;
}

absl::Status SqliteRegistry::Initialise(const Identity& identity, const Epoch& first, absl::Time now) {
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::StatusOr<std::optional<Identity>> other = ReadIdentity();
  if (!other.ok()) return other.status();
  if (other->has_value()) return absl::OkStatus();
  if (absl::Status status = tables_->WriteIdentity(identity, now); !status.ok()) return Fail(status);
  if (absl::Status status = tables_->AddEpoch(first, now); !status.ok()) return Fail(status);
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  id_ = identity.id;
  log::Info("keys.registry.made", {{"file", options_.path}});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Registry::Found>> SqliteRegistry::FindMany(absl::Span<const RowName> names) {
  return FindEach(names, [this](const RowName& name) { return tables_->FindActive(name); });
}

absl::StatusOr<std::vector<Registry::Found>> SqliteRegistry::FindManyById(absl::Span<const crypto::KeyId> ids) {
  return FindEach(ids, [this](const crypto::KeyId& id) { return tables_->FindById(id); });
}

// Transactions that read are not committed: what was read is true, and SQLite commits nothing after a damaged page.
template <typename Name, typename Find>
absl::StatusOr<std::vector<Registry::Found>> SqliteRegistry::FindEach(absl::Span<const Name> names, Find find) {
  absl::StatusOr<Transaction> transaction = tables_->BeginRead();
  if (!transaction.ok()) return Fail(transaction.status());
  std::vector<Found> rows;
  rows.reserve(names.size());
  for (const Name& name : names) {
    Found row = find(name);
    if (!row.ok() && !absl::IsDataLoss(row.status())) return Fail(row.status());
    rows.push_back(std::move(row));
  }
  return rows;
}

absl::StatusOr<std::vector<Registry::Inserted>> SqliteRegistry::InsertOrGet(absl::Span<const NewRow> rows,
                                                                            absl::Time now) {
  // Inside the write transaction nobody else can make or erase a key.
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::StatusOr<int64_t> epochInUse = tables_->EpochInUse();
  if (!epochInUse.ok()) return Fail(epochInUse.status());
  std::vector<Inserted> inserted;
  inserted.reserve(rows.size());
  std::optional<std::string_view> keyspace;  // of the user before; nearly always that of all
  for (const NewRow& row : rows) {
    if (row.row.scope == Scope::kUser && row.keyspace != keyspace) {
      if (absl::Status status = tables_->AddKeyspace(row.keyspace); !status.ok()) return Fail(status);
      keyspace = row.keyspace;
    }
    absl::StatusOr<Inserted> one = InsertOrGetOne(row, *epochInUse, now);
    if (!one.ok()) return Fail(one.status());
    inserted.push_back(*std::move(one));
  }
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return inserted;
}

absl::StatusOr<Registry::Inserted> SqliteRegistry::InsertOrGetOne(const NewRow& row, int64_t epochInUse,
                                                                  absl::Time now) {
  Found other = tables_->FindActive(row.row.name);
  if (!other.ok()) return other.status();
  if (other->has_value()) return Inserted{Inserted::State::kExists, *std::move(other)};
  if (row.row.epoch != epochInUse) return Inserted{Inserted::State::kStale, std::nullopt};
  absl::StatusOr<std::optional<SqliteTables::Erasure>> erasure = tables_->FindErasure(row.row.name.subject);
  if (!erasure.ok()) return erasure.status();
  const bool erased = row.row.scope == Scope::kUser && erasure->has_value();
  if (absl::Status status = tables_->Insert(row.row, erased, now); !status.ok()) return status;
  if (erased) return Inserted{Inserted::State::kErased, std::nullopt};
  ASSIGN_OR_RETURN(KnownFacts known, tables_->ReadFacts(row.row.name.subject));
  return Inserted{Inserted::State::kNew, std::nullopt, std::move(known.facts)};
}

absl::StatusOr<std::vector<Registry::Erased>> SqliteRegistry::EraseUsers(std::optional<std::string_view> keyspace,
                                                                         size_t count, SubjectOf subjectOf,
                                                                         absl::Time now) {
  return EraseEach(keyspace, count, subjectOf, /*isAlways=*/false, now);
}

absl::StatusOr<std::vector<Registry::Erased>> SqliteRegistry::EraseSubjects(std::string_view keyspace,
                                                                            absl::Span<const Subject> subjects,
                                                                            absl::Time now) {
  for (const Subject& subject : subjects) {
    absl::StatusOr<bool> isUser = tables_->IsUserOrUnknown(subject);
    if (!isUser.ok()) return Fail(isUser.status());
    if (!*isUser) return NotAUser();
  }
  const auto subjectOf = [subjects](size_t subject, std::string_view) { return subjects[subject]; };
  const auto count = [this](int64_t most) { return tables_->CountKeylessErasures(most); };
  absl::StatusOr<bool> mayAdd = keylessErasures_.MayAdd(openings_, now, count);
  if (!mayAdd.ok()) return Fail(mayAdd.status());
  absl::StatusOr<std::vector<Erased>> erased = EraseEach(keyspace, subjects.size(), subjectOf, *mayAdd, now);
  if (erased.ok()) keylessErasures_.Note(*erased);
  return erased;
}

absl::StatusOr<std::vector<Registry::Erased>> SqliteRegistry::EraseEach(std::optional<std::string_view> keyspace,
                                                                        size_t count, SubjectOf subjectOf,
                                                                        bool isAlways, absl::Time now) {
  std::vector<Erased> erased(count);
  for (size_t first = 0; first < count; first += kMostUsersOfAStep) {
    absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
    if (!transaction.ok()) return Fail(transaction.status());
    std::vector<std::string> keyspaces;
    if (keyspace.has_value()) {
      keyspaces.emplace_back(*keyspace);
    } else {
      absl::StatusOr<std::vector<std::string>> all = tables_->ReadKeyspaces();
      if (!all.ok()) return Fail(all.status());
      keyspaces = *std::move(all);
    }
    bool mustCommit = false;
    for (size_t user = first; user < std::min(count, first + kMostUsersOfAStep); ++user) {
      const auto subjectIn = [&](std::string_view candidate) { return subjectOf(user, candidate); };
      absl::StatusOr<bool> isChanged = EraseOne(keyspaces, subjectIn, isAlways, now, erased[user]);
      if (!isChanged.ok()) return Fail(isChanged.status());
      mustCommit |= *isChanged;
    }
    if (!mustCommit) continue;
    if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  }
  return erased;
}

absl::StatusOr<bool> SqliteRegistry::EraseOne(const std::vector<std::string>& keyspaces, SubjectIn subjectIn,
                                              bool isAlways, absl::Time now, Erased& erased) {
  bool isChanged = false;
  for (const std::string& keyspace : keyspaces) {
    const Subject subject = subjectIn(keyspace);
    absl::StatusOr<std::optional<SqliteTables::Erasure>> before = tables_->FindErasure(subject);
    if (!before.ok()) return before.status();
    if (before->has_value() && !(*before)->hasKeys) {
      erased.earlier.push_back({keyspace, (*before)->time});
      erased.erasedBefore = std::min(erased.erasedBefore.value_or(absl::InfiniteFuture()), (*before)->time);
      erased.number = std::max(erased.number, (*before)->number);
      // An agent of an older version, which does not know of what is known, may have erased the user.
      ASSIGN_OR_RETURN(const bool wasKnown, tables_->ForgetFacts(subject));
      isChanged |= wasKnown;
      continue;
    }
    absl::StatusOr<SqliteTables::Erasure> erasure = tables_->Erase(subject, keyspace, isAlways, now);
    if (!erasure.ok()) return erasure.status();
    if (erasure->number == 0) continue;
    erased.keyCount += erasure->keyCount;
    erased.number = std::max(erased.number, erasure->number);
    erased.keyspaces.push_back(keyspace);
    isChanged = true;
  }
  return isChanged;
}

absl::StatusOr<std::vector<Registry::Readmission>> SqliteRegistry::Readmit(absl::Span<const Subject> subjects,
                                                                           absl::Time now) {
  using State = Readmission::State;
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  std::vector<Readmission> readmissions;
  for (const Subject& subject : subjects) {
    Readmission& one = readmissions.emplace_back();
    absl::StatusOr<std::optional<SqliteTables::Erasure>> erasure = tables_->FindErasure(subject);
    if (!erasure.ok()) return Fail(erasure.status());
    if (!erasure->has_value()) continue;
    const bool isOver = !agent_.has_value() || agent_->confirmed >= (*erasure)->number;
    one = {isOver ? State::kReadmitted : State::kUnderWay, (*erasure)->time};
    if (!isOver) continue;
    if (absl::Status status = tables_->Readmit(subject, now); !status.ok()) return Fail(status);
  }
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return readmissions;
}

absl::Status SqliteRegistry::NoteAgent(const Agent& self) {
  agent_ = self;
  return absl::OkStatus();
}

absl::Status SqliteRegistry::ForgetAgent(const AgentId&) {
  agent_.reset();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Registry::Agent>> SqliteRegistry::ReadAgents() {
  std::vector<Agent> agents;
  if (agent_.has_value()) agents.push_back(*agent_);
  return agents;
}

// The write-ahead log is what holds old copies.
absl::Status SqliteRegistry::PurgeErased() {
  absl::Status status = tables_->TruncateLog();
  return status.ok() ? status : Fail(status);
}

absl::StatusOr<std::vector<Registry::KnownFacts>> SqliteRegistry::ReadFacts(absl::Span<const Subject> subjects) {
  absl::StatusOr<Transaction> transaction = tables_->BeginRead();
  if (!transaction.ok()) return Fail(transaction.status());
  std::vector<KnownFacts> known;
  known.reserve(subjects.size());
  for (const Subject& subject : subjects) {
    absl::StatusOr<KnownFacts> one = tables_->ReadFacts(subject);
    if (!one.ok()) return Fail(one.status());
    known.push_back(*std::move(one));
  }
  return known;
}

absl::StatusOr<std::vector<int64_t>> SqliteRegistry::WriteFacts(absl::Span<const NewFacts> facts, absl::Time now) {
  std::vector<int64_t> numbers;
  if (facts.empty()) return numbers;  // what another process has committed is durable
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  for (const NewFacts& one : facts) {
    absl::StatusOr<int64_t> number = ReplaceFacts(one, now);
    if (!number.ok()) return Fail(number.status());
    numbers.push_back(*number);
  }
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return numbers;
}

// 0: the subject has other facts by now, or was erased.
absl::StatusOr<int64_t> SqliteRegistry::ReplaceFacts(const NewFacts& facts, absl::Time now) {
  ASSIGN_OR_RETURN(const KnownFacts known, tables_->ReadFacts(facts.subject));
  if (known.erased.has_value() || known.number != facts.number) return 0;
  RETURN_IF_ERROR(tables_->AddKeyspace(facts.keyspace));
  return tables_->WriteFacts(facts, now);
}

absl::StatusOr<std::vector<Registry::Source>> SqliteRegistry::ReadSources(bool withStates) {
  absl::StatusOr<std::vector<Source>> sources = tables_->ReadSources(withStates, absl::Now());
  if (!sources.ok()) return Fail(sources.status());
  return sources;
}

absl::StatusOr<std::optional<Registry::Source>> SqliteRegistry::LeadSource(std::string_view keyspace,
                                                                           const AgentId& self, std::string_view name,
                                                                           std::chrono::milliseconds lease) {
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::StatusOr<std::optional<Source>> source = tables_->LeadSource(keyspace, self, name, lease, absl::Now());
  if (!source.ok()) return Fail(source.status());
  if (!source->has_value()) return source;
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return source;
}

absl::Status SqliteRegistry::ReleaseSource(std::string_view keyspace, int64_t term, const AgentId& self) {
  const absl::Status status = tables_->ReleaseSource(keyspace, term, self);
  return status.ok() ? status : Fail(status);
}

absl::StatusOr<Registry::Moved> SqliteRegistry::MoveSource(const SourceMove& move, absl::Span<const NewFacts> facts,
                                                           absl::Time now) {
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::StatusOr<bool> isMine = tables_->MoveSource(move, absl::Now());
  if (!isMine.ok()) return Fail(isMine.status());
  if (!*isMine) return Moved();
  Moved moved{true, {}};
  for (const NewFacts& one : facts) {
    absl::StatusOr<int64_t> number = ReplaceFacts(one, now);
    if (!number.ok()) return Fail(number.status());
    if (*number == 0) return Moved();
    moved.numbers.push_back(*number);
  }
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return moved;
}

absl::StatusOr<std::vector<Registry::PastChange>> SqliteRegistry::ReadHistory(const Subject& subject) {
  absl::StatusOr<std::vector<PastChange>> changes = tables_->ReadHistory(subject);
  if (!changes.ok()) return Fail(changes.status());
  return changes;
}

absl::StatusOr<std::vector<std::string>> SqliteRegistry::ReadKeyspaces() {
  absl::StatusOr<std::vector<std::string>> keyspaces = tables_->ReadKeyspaces();
  if (!keyspaces.ok()) return Fail(keyspaces.status());
  return keyspaces;
}

absl::StatusOr<Registry::News> SqliteRegistry::Poll() {
  absl::StatusOr<SqliteTables::News> news = tables_->ReadNewsAfter(lastNumber_, kMostNewsOfAPoll);
  if (!news.ok()) return Fail(news.status());
  lastNumber_ = news->last;
  return std::move(news->news);
}

absl::Status SqliteRegistry::CheckWritable(absl::Time now) {
  absl::Status status = tables_->ProbeWrite(now);
  return status.ok() ? status : Fail(status);
}

// Erasing needs room in the write-ahead log.
absl::Status SqliteRegistry::CheckRoom() const {
  constexpr uint64_t kKeepFree = 64 << 20;
  uint64_t free = 0;
  if (options_.freeBytes) {
    free = options_.freeBytes();
  } else {
    struct statvfs info;
    if (statvfs(options_.path.c_str(), &info) != 0) return absl::OkStatus();
    free = uint64_t{info.f_bavail} * info.f_frsize;
    // A file system of its own may be small.
    const uint64_t all = uint64_t{info.f_blocks} * info.f_frsize;
    if (free >= all / 20) return absl::OkStatus();
  }
  if (free >= kKeepFree) return absl::OkStatus();
  return absl::UnavailableError(
      StrCat(name_, ": the disk is nearly full (", free >> 20,
             " MiB left); records of new users and new consents wait, so that users can still be erased"));
}

}  // namespace kveil::keys
