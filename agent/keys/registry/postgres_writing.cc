// What PostgresRegistry does whenever it writes.
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"

namespace kveil::keys {
namespace {

// Transactions that the server ended for another's sake are repeated.
constexpr int kMostAttempts = 5;

}  // namespace

void PostgresRegistry::NoteLeftBehind() {
  if (step_ == Step::kWrite) leftBehind_ = backend_;
}

void PostgresRegistry::GiveUp() {
  NoteLeftBehind();
  step_ = Step::kNone;
  connection_.reset();
}

// Of a server that has taken over, no process waits.
absl::Status PostgresRegistry::MayWrite() {
  if (leftBehind_ == 0) return absl::OkStatus();
  PostgresParameters process;
  process.Add(leftBehind_);
  const PostgresStatement ask[] = {PostgresStatement::Execute(postgres::kIsWaiting, process)};
  ASSIGN_OR_RETURN(const Results results, Call(ask));
  if (results.at(0).size() == 0) {
    leftBehind_ = 0;
    return absl::OkStatus();
  }
  // The connection stays as it is, and can read.
  return absl::AbortedError(StrCat(name(),
                                   " does not acknowledge what is written: the server waits for a synchronous standby "
                                   "(synchronous_standby_names); nothing is made or erased until it has one"));
}

absl::StatusOr<PostgresRegistry::Results> PostgresRegistry::Write(const PostgresStatement& statement) {
  RETURN_IF_ERROR(MayWrite());
  return Call({&statement, 1}, Step::kWrite);
}

absl::StatusOr<PostgresRegistry::Results> PostgresRegistry::Transact(const char* lock,
                                                                     absl::Span<const PostgresStatement> statements) {
  static const PostgresParameters kNone;
  RETURN_IF_ERROR(MayWrite());
  std::vector<PostgresStatement> all = {PostgresStatement::Text(postgres::kBegin),
                                        PostgresStatement::Execute(lock, kNone)};
  all.insert(all.end(), statements.begin(), statements.end());
  all.push_back(PostgresStatement::Text(postgres::kCommit));
  absl::StatusOr<Results> results = Call(all, Step::kWrite);
  for (int attempt = 1; absl::IsAborted(results.status()) && attempt < kMostAttempts; ++attempt) {
    results = Call(all, Step::kWrite);
  }
  if (!results.ok()) return results;
  if (results->back().tag() != postgres::kCommit) {
    return absl::UnavailableError(StrCat(name(), " did not commit"));
  }
  results->erase(results->begin(), results->begin() + 2);
  return results;
}

absl::Status PostgresRegistry::CheckWritable(absl::Time now) {
  PostgresParameters when;
  when.Add(absl::ToUnixMillis(now));
  // Without the lock: an erasure that waits is no trouble of the registry.
  const absl::StatusOr<Results> results = Write(PostgresStatement::Execute(postgres::kProbe, when));
  return results.ok() ? absl::OkStatus() : Fail(results.status());
}

}  // namespace kveil::keys
