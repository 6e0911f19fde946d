// What PostgresRegistry does for erasures: makes them, and keeps the list of the agents that must hear of them.
// postgres_users.cc tells of them.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"
#include "keys/registry/stored_row.h"

namespace kveil::keys {
namespace {

// Erasures that a new keyspace came across are repeated.
constexpr int kMostAttempts = 5;
// Users times keyspaces that are erased in one transaction, for which all agents that make keys wait.
constexpr size_t kMostSubjects = 512;

std::vector<Bytes> BytesOf(const std::vector<std::string>& texts) {
  std::vector<Bytes> bytes;
  for (const std::string& text : texts) bytes.push_back(AsBytes(text));
  return bytes;
}

}  // namespace

absl::StatusOr<std::vector<Registry::Erased>> PostgresRegistry::EraseUsers(std::optional<std::string_view> keyspace,
                                                                           size_t count, SubjectOf subjectOf,
                                                                           absl::Time now) {
  return EraseEach(keyspace, count, subjectOf, /*isAlways=*/false, now);
}

absl::StatusOr<std::vector<Registry::Erased>> PostgresRegistry::EraseSubjects(std::string_view keyspace,
                                                                              absl::Span<const Subject> subjects,
                                                                              absl::Time now) {
  PostgresParameters asked;
  asked.AddArray(std::vector<Bytes>(subjects.begin(), subjects.end()));
  ASSIGN_OR_RETURN(const Results others, Read(postgres::kFindNoUsers, asked));
  if (others.at(0).size() > 0) return NotAUser();
  const auto subjectOf = [subjects](size_t subject, std::string_view) { return subjects[subject]; };
  const auto count = [this](int64_t most) -> absl::StatusOr<int64_t> {
    PostgresParameters limit;
    limit.Add(most);
    ASSIGN_OR_RETURN(const Results counted, Read(postgres::kCountKeylessErasures, limit));
    return counted.at(0).IntegerAt(0, 0);
  };
  ASSIGN_OR_RETURN(const bool mayAdd, keylessErasures_.MayAdd(openings_, now, count));
  absl::StatusOr<std::vector<Erased>> erased = EraseEach(keyspace, subjects.size(), subjectOf, mayAdd, now);
  if (erased.ok()) keylessErasures_.Note(*erased);
  return erased;
}

absl::StatusOr<std::vector<Registry::Erased>> PostgresRegistry::EraseEach(std::optional<std::string_view> keyspace,
                                                                          size_t count, SubjectOf subjectOf,
                                                                          bool isAlways, absl::Time now) {
  std::vector<Erased> erased(count);
  std::vector<std::string> keyspaces;
  if (keyspace.has_value()) keyspaces.emplace_back(*keyspace);
  int attempt = 0;
  for (size_t first = 0; first < count;) {
    if (!keyspace.has_value() && (first == 0 || attempt > 0)) {
      ASSIGN_OR_RETURN(keyspaces, ReadKeyspaces());
    }
    const size_t size =
        std::min(count - first, std::max<size_t>(1, kMostSubjects / std::max<size_t>(1, keyspaces.size())));
    absl::StatusOr<bool> done = EraseSome(keyspaces, !keyspace.has_value(), first, subjectOf, isAlways, now,
                                          absl::MakeSpan(erased).subspan(first, size));
    if (!done.ok()) return Fail(done.status());
    if (*done) {
      first += size;
      attempt = 0;
    } else if (++attempt == kMostAttempts) {
      return absl::UnavailableError(StrCat(name(), " gets new keyspaces all the time; not all users were erased"));
    }
  }
  return erased;
}

absl::StatusOr<bool> PostgresRegistry::EraseSome(const std::vector<std::string>& keyspaces, bool mustBeAll,
                                                 size_t first, SubjectOf subjectOf, bool isAlways, absl::Time now,
                                                 absl::Span<Erased> erased) {
  std::vector<Subject> subjects;
  std::vector<Bytes> names;  // the keyspace of each subject
  absl::flat_hash_map<Subject, size_t> places;
  for (size_t user = 0; user < erased.size(); ++user) {
    for (const std::string& keyspace : keyspaces) {
      subjects.push_back(subjectOf(first + user, keyspace));
      places.try_emplace(subjects.back(), subjects.size() - 1);
      names.push_back(AsBytes(keyspace));
    }
  }
  PostgresParameters check, erase;
  check.AddArray(std::vector<Bytes>(subjects.begin(), subjects.end()));
  erase = check;
  check.AddArray(BytesOf(keyspaces));
  erase.AddArray(names).Add(absl::ToUnixMillis(now)).Add(mustBeAll ? 1 : 0).Add(isAlways ? 1 : 0);
  // A commit waits for a synchronous standby only if it writes. What was erased before may not be there yet.
  PostgresParameters when;
  when.Add(absl::ToUnixMillis(now));
  const PostgresStatement statements[] = {PostgresStatement::Execute(postgres::kCheckErasure, check),
                                          PostgresStatement::Execute(postgres::kErase, erase),
                                          PostgresStatement::Execute(postgres::kProbe, when)};
  ASSIGN_OR_RETURN(const Results results, Transact(postgres::kLock, statements));
  const PostgresResult& before = results.at(0);
  // A key in a new keyspace came in between: nothing was erased yet.
  if (mustBeAll && !before.BooleanAt(0, 0)) return false;
  const auto placeOf = [&](const PostgresResult& result, size_t row, int column) -> std::optional<size_t> {
    Subject subject;
    if (!CopyTo(subject, result.BytesAt(row, column))) return std::nullopt;
    const auto found = places.find(subject);
    return found == places.end() ? std::nullopt : std::optional(found->second);
  };
  const PostgresResult& gone = results.at(1);
  absl::flat_hash_set<size_t> erasedNow;
  for (size_t i = 0; i < gone.size(); ++i) {
    const std::optional<size_t> place = placeOf(gone, i, 0);
    if (!place.has_value()) return Corrupt("a row is malformed");
    erasedNow.insert(*place);
    Erased& one = erased[*place / keyspaces.size()];
    one.keyspaces.push_back(keyspaces[*place % keyspaces.size()]);
    one.keyCount += static_cast<size_t>(gone.IntegerAt(i, 1));
    one.number = std::max(one.number, gone.IntegerAt(i, 2));
  }
  for (size_t i = 0; i < before.size(); ++i) {
    if (before.IsNull(i, 1)) continue;
    const std::optional<size_t> place = placeOf(before, i, 1);
    if (!place.has_value()) return Corrupt("a row is malformed");
    if (erasedNow.contains(*place)) continue;
    Erased& one = erased[*place / keyspaces.size()];
    const absl::Time time = absl::FromUnixMillis(before.IntegerAt(i, 2));
    one.earlier.push_back({keyspaces[*place % keyspaces.size()], time});
    one.erasedBefore = std::min(one.erasedBefore.value_or(absl::InfiniteFuture()), time);
    one.number = std::max(one.number, before.IntegerAt(i, 3));
  }
  return true;
}

absl::StatusOr<std::vector<Registry::Readmission>> PostgresRegistry::Readmit(absl::Span<const Subject> subjects,
                                                                             absl::Time now) {
  using State = Readmission::State;
  PostgresParameters parameters, when;
  parameters.AddArray(std::vector<Bytes>(subjects.begin(), subjects.end())).Add(absl::ToUnixMillis(now));
  when.Add(absl::ToUnixMillis(now));
  // As in EraseSome: a commit waits for a synchronous standby only if it writes.
  const PostgresStatement statements[] = {PostgresStatement::Execute(postgres::kReadmit, parameters),
                                          PostgresStatement::Execute(postgres::kProbe, when)};
  absl::StatusOr<Results> results = Transact(postgres::kLock, statements);
  if (!results.ok()) return Fail(results.status());
  absl::flat_hash_map<Subject, Readmission> found;
  const PostgresResult& erased = results->at(0);
  for (size_t i = 0; i < erased.size(); ++i) {
    Subject subject;
    if (!CopyTo(subject, erased.BytesAt(i, 0))) return Fail(Corrupt("a row is malformed"));
    const State state = erased.BooleanAt(i, 2) ? State::kReadmitted : State::kUnderWay;
    found[subject] = {state, absl::FromUnixMillis(erased.IntegerAt(i, 1))};
  }
  std::vector<Readmission> readmissions;
  for (const Subject& subject : subjects) readmissions.push_back(found[subject]);
  return readmissions;
}

// The server keeps old versions of rows where only it can reach them: see docs/security.md.
absl::Status PostgresRegistry::PurgeErased() {
  return absl::UnimplementedError(
      StrCat(name(), " keeps old versions of its rows in its tables, write-ahead log, standbys and backups"));
}

absl::Status PostgresRegistry::NoteAgent(const Agent& self) {
  PostgresParameters agent;
  agent.Add(self.id).Add(AsBytes(self.name)).Add(self.cacheTtl.count()).Add(self.confirmed);
  agent.Add(self.epoch);
  absl::StatusOr<Results> results = Write(PostgresStatement::Execute(postgres::kNoteAgent, agent));
  if (!results.ok()) return Fail(results.status());
  return results->at(0).size() > 0 ? absl::OkStatus() : AddAgent(agent);
}

absl::Status PostgresRegistry::AddAgent(const PostgresParameters& agent) {
  PostgresParameters age;
  age.Add(std::chrono::milliseconds(kAgentsKept).count());
  PostgresParameters add = agent;
  add.Add(static_cast<int64_t>(kMostAgents));
  const PostgresStatement statements[] = {PostgresStatement::Execute(postgres::kDropAgents, age),
                                          PostgresStatement::Execute(postgres::kAddAgent, add)};
  absl::StatusOr<Results> results = Transact(postgres::kLockShared, statements);
  if (!results.ok()) return Fail(results.status());
  if (results->at(1).size() > 0) return absl::OkStatus();
  return absl::UnavailableError(
      StrCat(name(), " knows ", kMostAgents, " agents, and takes no more until some of them have ended for an hour"));
}

absl::Status PostgresRegistry::ForgetAgent(const AgentId& id) {
  PostgresParameters agent;
  agent.Add(id);
  absl::StatusOr<Results> results = Write(PostgresStatement::Execute(postgres::kForgetAgent, agent));
  return results.ok() ? absl::OkStatus() : Fail(results.status());
}

absl::StatusOr<std::vector<Registry::Agent>> PostgresRegistry::ReadAgents() {
  PostgresParameters age;
  age.Add(std::chrono::milliseconds(kAgentsKept).count());
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadAgents, age));
  const PostgresResult& rows = results.at(0);
  std::vector<Agent> agents(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    if (!CopyTo(agents[i].id, rows.BytesAt(i, 0))) return Fail(Corrupt("an agent's row is malformed"));
    agents[i].name = rows.TextAt(i, 1);
    agents[i].cacheTtl = std::chrono::milliseconds(rows.IntegerAt(i, 2));
    agents[i].confirmed = rows.IntegerAt(i, 3);
    agents[i].lastSeen = std::chrono::milliseconds(rows.IntegerAt(i, 4));
    agents[i].epoch = rows.IntegerAt(i, 5);
  }
  return agents;
}

}  // namespace kveil::keys
