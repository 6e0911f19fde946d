// What PostgresRegistry does for epochs and their turns.
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"

namespace kveil::keys {

absl::StatusOr<std::vector<Registry::Epoch>> PostgresRegistry::ReadEpochs(bool withDestroyed) {
  PostgresParameters asked;
  asked.Add(static_cast<int64_t>(withDestroyed)).Add(static_cast<int64_t>(kMostPastEpochs));
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadEpochs, asked));
  const PostgresResult& rows = results.at(0);
  std::vector<Epoch> epochs;
  for (size_t i = 0; i < rows.size(); ++i) {
    Epoch& epoch = epochs.emplace_back();
    epoch.number = rows.IntegerAt(i, 0);
    const Bytes wrapped = rows.BytesAt(i, 1);
    epoch.wrappedKey.assign(wrapped.begin(), wrapped.end());
    epoch.isUsed = rows.BooleanAt(i, 2);
    epoch.age = std::chrono::milliseconds(rows.IntegerAt(i, 3));
    if (!rows.IsNull(i, 5)) epoch.erasuresBefore = rows.IntegerAt(i, 5);
    if (!rows.IsNull(i, 4)) epoch.endAge = std::chrono::milliseconds(rows.IntegerAt(i, 4));
  }
  return epochs;
}

absl::StatusOr<bool> PostgresRegistry::TurnBy(const char* lock, const char* statement,
                                              const PostgresParameters& parameters) {
  const PostgresStatement statements[] = {PostgresStatement::Execute(statement, parameters)};
  absl::StatusOr<Results> results = Transact(lock, statements);
  if (!results.ok()) return Fail(results.status());
  return results->at(0).size() > 0;
}

absl::StatusOr<bool> PostgresRegistry::AddEpoch(const Epoch& epoch, const ByteBuffer& secretBefore,
                                                const ByteBuffer& secret, absl::Time /*now*/) {
  PostgresParameters parameters;
  parameters.Add(epoch.number).Add(epoch.wrappedKey).Add(secretBefore).Add(secret);
  return TurnBy(postgres::kLock, postgres::kAddEpoch, parameters);
}

absl::StatusOr<bool> PostgresRegistry::UseEpoch(int64_t number, absl::Time /*now*/) {
  PostgresParameters parameters;
  parameters.Add(number);
  return TurnBy(postgres::kLock, postgres::kUseEpoch, parameters);
}

absl::StatusOr<std::optional<Registry::TurnPlace>> PostgresRegistry::LeadTurn(int64_t epoch, const AgentId& self,
                                                                              std::chrono::milliseconds lease) {
  PostgresParameters parameters;
  parameters.Add(epoch).Add(self).Add(static_cast<int64_t>(lease.count()));
  absl::StatusOr<Results> led = Write(PostgresStatement::Execute(postgres::kLeadTurn, parameters));
  if (!led.ok()) return Fail(led.status());
  if (led->at(0).size() == 0) {
    epochIndex_.Leave();
    return std::nullopt;
  }
  return TurnPlace(led->at(0).TextAt(0, 0));
}

absl::StatusOr<std::vector<Registry::Found>> PostgresRegistry::ReadRowsAfter(const TurnPlace& place, size_t most) {
  PostgresParameters asked;
  asked.Add(AsBytes(place)).Add(static_cast<int64_t>(most));
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadRowsAfter, asked));
  std::vector<Found> rows(results.at(0).size(), std::optional<Row>());
  if (absl::Status status = TakeRows(results.at(0), absl::MakeSpan(rows)); !status.ok()) return Fail(status);
  return rows;
}

absl::StatusOr<bool> PostgresRegistry::MoveTurn(int64_t epoch, const AgentId& self, const TurnPlace& before,
                                                const TurnPlace& after, absl::Span<const Row> rows) {
  std::vector<Bytes> ids, wrappedKeys;
  for (const Row& row : rows) {
    ids.emplace_back(row.id.bytes);
    wrappedKeys.emplace_back(row.wrappedKey);
  }
  PostgresParameters parameters;
  parameters.Add(epoch).Add(self).Add(AsBytes(before)).Add(AsBytes(after)).AddArray(ids).AddArray(wrappedKeys);
  return TurnBy(postgres::kLockShared, postgres::kMoveTurn, parameters);
}

absl::StatusOr<bool> PostgresRegistry::EndTurn(int64_t epoch, const AgentId& self, absl::Time /*now*/) {
  const PostgresParameters none;
  ASSIGN_OR_RETURN(const Results index, Read(postgres::kHasEpochIndex, none));
  if (index.at(0).size() == 0) RETURN_IF_ERROR(epochIndex_.Build(deadline_));
  // The first look may take long: the index still has an entry of each row that was rewrapped, and drops it then. So
  // not while all wait for the lock.
  PostgresParameters before;
  before.Add(epoch);
  const PostgresStatement look[] = {PostgresStatement::Execute(postgres::kHasRowsBefore, before)};
  const absl::StatusOr<Results> rows = Call(look);
  if (!rows.ok()) return absl::AbortedError(StrCat("the turn ends soon: ", ToStd(Fail(rows.status()).message())));
  if (rows->at(0).BooleanAt(0, 0)) return false;
  PostgresParameters parameters;
  parameters.Add(epoch).Add(self);
  const PostgresStatement end[] = {PostgresStatement::Execute(postgres::kNoteWriters, none),
                                   PostgresStatement::Execute(postgres::kEndTurn, parameters)};
  const absl::StatusOr<Results> results = Transact(postgres::kLock, end);
  if (!results.ok()) return Fail(results.status());
  const PostgresResult& ended = results->at(1);
  if (ended.size() == 0) return false;
  if (ended.BooleanAt(0, 0)) return true;
  if (!ended.BooleanAt(0, 1)) return false;
  return absl::AbortedError(
      StrCat("the turn ends when what another program writes to kveil.scope_keys is committed, as ", name(),
             " may get rows back"));
}

absl::StatusOr<bool> PostgresRegistry::GiveUpRow(const Row& row, absl::Time now) {
  PostgresParameters parameters;
  parameters.Add(row.id.bytes).Add(row.wrappedKey).Add(absl::ToUnixMillis(now));
  return TurnBy(postgres::kLock, postgres::kGiveUpRow, parameters);
}

absl::StatusOr<bool> PostgresRegistry::ReplaceWrapped(absl::Span<const Rewrapped> rewrapped) {
  std::vector<int64_t> epochs;
  std::vector<Bytes> before, after;
  for (const Rewrapped& one : rewrapped) {
    epochs.push_back(one.epoch);
    before.emplace_back(one.before);
    after.emplace_back(one.after);
  }
  PostgresParameters parameters;
  parameters.AddArray(epochs).AddArray(before).AddArray(after);
  return TurnBy(postgres::kLock, postgres::kReplaceWrapped, parameters);
}

absl::StatusOr<Registry::EpochCounts> PostgresRegistry::CountKeys() {
  PostgresParameters asked;
  asked.Add(static_cast<int64_t>(kMostCounted));
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kCountKeys, asked));
  const PostgresResult& rows = results.at(0);
  EpochCounts counts;
  uint64_t all = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    counts.counts.push_back({rows.IntegerAt(i, 0), static_cast<uint64_t>(rows.IntegerAt(i, 1))});
    all += static_cast<uint64_t>(rows.IntegerAt(i, 2));
  }
  counts.isAll = all < kMostCounted;
  return counts;
}

}  // namespace kveil::keys
