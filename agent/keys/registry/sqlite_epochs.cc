// What an SQLite registry does for epochs and their turns.
#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/sqlite_registry.h"
#include "keys/registry/sqlite_schema.h"
#include "keys/registry/sqlite_tables.h"

namespace kveil::keys {

absl::StatusOr<std::vector<Registry::Epoch>> SqliteTables::ReadEpochs(bool withDestroyed, absl::Time now) {
  ASSIGN_OR_RETURN(
      Statement statement,
      database_->Prepare(
          "SELECT epoch, wrappedKey, created, destroyed, used, ended, turns.epoch IS NULL, erasures FROM epochs"
          " LEFT JOIN turns USING (epoch) WHERE wrappedKey IS NOT NULL OR ?1 AND epoch >="
          " (SELECT max(epoch) FROM epochs) - ?2 ORDER BY epoch"));
  statement.Bind(1, static_cast<int64_t>(withDestroyed));
  statement.Bind(2, static_cast<int64_t>(Registry::kMostPastEpochs));
  const int64_t millis = absl::ToUnixMillis(now);
  std::vector<Registry::Epoch> epochs;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return epochs;
    const Bytes wrapped = statement.BlobAt(1);
    Registry::Epoch& epoch = epochs.emplace_back();
    epoch.number = statement.IntegerAt(0);
    epoch.wrappedKey.assign(wrapped.begin(), wrapped.end());
    epoch.isUsed = !statement.IsNull(4) || statement.IntegerAt(6) != 0;
    epoch.age = std::chrono::milliseconds(millis - statement.IntegerAt(2));
    if (!statement.IsNull(7)) epoch.erasuresBefore = statement.IntegerAt(7);
    const int end = statement.IsNull(3) ? 5 : 3;
    if (!statement.IsNull(end)) epoch.endAge = std::chrono::milliseconds(millis - statement.IntegerAt(end));
  }
}

absl::Status SqliteTables::AddEpoch(const Registry::Epoch& epoch, absl::Time now) {
  ASSIGN_OR_RETURN(Statement statement,
                   database_->Prepare("INSERT INTO epochs (epoch, wrappedKey, created) VALUES (?1, ?2, ?3)"));
  statement.Bind(1, epoch.number);
  statement.Bind(2, epoch.wrappedKey);
  statement.Bind(3, absl::ToUnixMillis(now));
  return statement.Run();
}

absl::Status SqliteTables::BeginTurn(const Registry::Epoch& epoch, const ByteBuffer& secret, absl::Time now) {
  RETURN_IF_ERROR(AddEpoch(epoch, now));
  ASSIGN_OR_RETURN(Statement turn,
                   database_->Prepare("INSERT INTO turns (epoch, agent, seen, place, erasures) SELECT ?1, x'', 0, x'',"
                                      " coalesce(max(number), 0) FROM erasures"));
  turn.Bind(1, epoch.number);
  RETURN_IF_ERROR(turn.Run());
  ASSIGN_OR_RETURN(Statement replace, database_->Prepare("UPDATE registry SET wrappedSecret = ?1"));
  replace.Bind(1, secret);
  return replace.Run();
}

absl::StatusOr<bool> SqliteTables::UseEpoch(int64_t number, absl::Time now) {
  ASSIGN_OR_RETURN(Statement statement,
                   database_->Prepare("UPDATE turns SET used = ?2 WHERE epoch = ?1 AND used IS NULL"
                                      " AND epoch = (SELECT max(epoch) FROM epochs)"));
  statement.Bind(1, number);
  statement.Bind(2, absl::ToUnixMillis(now));
  RETURN_IF_ERROR(statement.Run());
  return database_->changes() > 0;
}

absl::StatusOr<int64_t> SqliteTables::EpochInUse() {
  RETURN_IF_ERROR(epochInUse_.Step().status());
  const int64_t epoch = epochInUse_.IntegerAt(0);
  epochInUse_.Reset();
  return epoch;
}

absl::StatusOr<std::optional<Registry::TurnPlace>> SqliteTables::LeadTurn(int64_t epoch, const Registry::AgentId& self,
                                                                          std::chrono::milliseconds lease,
                                                                          absl::Time now) {
  ASSIGN_OR_RETURN(Statement led, database_->Prepare("SELECT agent = ?2 FROM turns WHERE epoch = ?1"));
  led.Bind(1, epoch);
  led.Bind(2, self);
  ASSIGN_OR_RETURN(const bool hasTurn, led.Step());
  if (!hasTurn || led.IntegerAt(0) == 0) lookedUpTo_ = 0;  // another may have passed rows meanwhile
  led.Reset();
  // A time that has yet to come is of a clock that was set back.
  ASSIGN_OR_RETURN(Statement lead,
                   database_->Prepare("UPDATE turns SET agent = ?2, seen = ?3 WHERE epoch = ?1 AND used IS NOT NULL"
                                      " AND epoch = (SELECT max(epoch) FROM epochs)"
                                      " AND (agent = ?2 OR abs(seen - ?3) >= ?4) RETURNING place"));
  lead.Bind(1, epoch);
  lead.Bind(2, self);
  lead.Bind(3, absl::ToUnixMillis(now));
  lead.Bind(4, static_cast<int64_t>(lease.count()));
  ASSIGN_OR_RETURN(const bool leads, lead.Step());
  if (!leads) return std::nullopt;
  Registry::TurnPlace place(AsText(lead.BlobAt(0)));
  RETURN_IF_ERROR(lead.Step().status());  // to its end: only then is it written
  return place;
}

absl::StatusOr<std::vector<Registry::Found>> SqliteTables::ReadRowsAfter(const Registry::TurnPlace& place,
                                                                         size_t most) {
  ASSIGN_OR_RETURN(
      Statement statement,
      database_->Prepare("SELECT keyId, scope, subject, keyWindow, epoch, wrappedKey, state, NULL FROM keyRows"
                         " WHERE number > coalesce((SELECT number FROM scopeKeys WHERE substr(keyId, 1, 4) ="
                         "  substr(?1, 1, 4) AND keyId = ?1), 0) ORDER BY number LIMIT ?2"));
  statement.Bind(1, AsBytes(place));
  statement.Bind(2, static_cast<int64_t>(most));
  std::vector<Registry::Found> rows;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return rows;
    rows.push_back(TakeRow(statement));
  }
}

absl::StatusOr<bool> SqliteTables::MoveTurn(int64_t epoch, const Registry::AgentId& self,
                                            const Registry::TurnPlace& before, const Registry::TurnPlace& after,
                                            absl::Time now) {
  lookedUpTo_ = 0;
  ASSIGN_OR_RETURN(Statement move, database_->Prepare("UPDATE turns SET place = ?4, seen = ?5 WHERE epoch = ?1"
                                                      " AND agent = ?2 AND place = ?3 AND used IS NOT NULL"
                                                      " AND epoch = (SELECT max(epoch) FROM epochs)"));
  move.Bind(1, epoch);
  move.Bind(2, self);
  move.Bind(3, AsBytes(before));
  move.Bind(4, AsBytes(after));
  move.Bind(5, absl::ToUnixMillis(now));
  RETURN_IF_ERROR(move.Run());
  return database_->changes() > 0;
}

// In place: a wrapped key has the size of any other.
absl::Status SqliteTables::Rewrap(const Registry::Row& row) {
  ASSIGN_OR_RETURN(const std::optional<Erasure> erasure, FindErasure(row.name.subject));
  if (erasure.has_value()) return DestroyKeys(row.name.subject, erasure->time).status();  // somebody has put it back
  rewrap_.Bind(1, row.id.bytes);
  rewrap_.Bind(2, StoredEpoch(row.epoch, /*isErased=*/false));
  rewrap_.Bind(3, row.wrappedKey);
  RETURN_IF_ERROR(rewrap_.Run());
  if (database_->changes() > 0) return absl::OkStatus();
  const Registry::Found now = FindById(row.id);
  RETURN_IF_ERROR(now.status());
  const bool isReplaced = !now->has_value() || (*now)->erased || (*now)->epoch >= row.epoch;
  if (isReplaced) return absl::OkStatus();  // meanwhile
  return absl::DataLossError(StrCat("registry ", path_, " is corrupt: a wrapped key is not as long as it was"));
}

// Without an index: it would be as large as the one by subject, for a question that is asked once in a turn. A row that
// somebody puts back between two calls, behind what was looked at, has the turn begin anew (a trigger).
absl::StatusOr<std::optional<bool>> SqliteTables::HasRowsBefore(int64_t epoch) {
  constexpr int64_t kRowsOfALook = 100'000;  // some 20 ms
  if (std::exchange(lookedForEpoch_, epoch) != epoch) lookedUpTo_ = 0;
  ASSIGN_OR_RETURN(
      Statement look,
      database_->Prepare("SELECT count(*), max(number), sum(epochAndState > 0 AND epochAndState < ?1) FROM"
                         " (SELECT number, epochAndState FROM scopeKeys WHERE number > ?2 ORDER BY number LIMIT ?3)"));
  look.Bind(1, StoredEpoch(epoch, /*isErased=*/false));
  look.Bind(2, lookedUpTo_);
  look.Bind(3, kRowsOfALook);
  RETURN_IF_ERROR(look.Step().status());
  const bool hasRows = look.IntegerAt(2) > 0;
  const bool isEnd = look.IntegerAt(0) < kRowsOfALook;
  lookedUpTo_ = hasRows || isEnd ? 0 : look.IntegerAt(1);
  return hasRows || isEnd ? std::optional(hasRows) : std::nullopt;
}

absl::StatusOr<bool> SqliteTables::EndTurn(int64_t epoch, const Registry::AgentId& self, absl::Time now) {
  ASSIGN_OR_RETURN(Statement end, database_->Prepare("UPDATE turns SET ended = ?3, seen = ?3 WHERE epoch = ?1"
                                                     " AND agent = ?2 AND place = ?4 AND ended IS NULL"
                                                     " AND epoch = (SELECT max(epoch) FROM epochs)"));
  end.Bind(1, epoch);
  end.Bind(2, self);
  end.Bind(3, absl::ToUnixMillis(now));
  end.Bind(4, AsBytes(Registry::kTurnDone));
  RETURN_IF_ERROR(end.Run());
  if (database_->changes() == 0) return false;
  for (const char* sql : {"UPDATE epochs SET wrappedKey = zeroblob(length(wrappedKey)) WHERE epoch < ?1"
                          " AND wrappedKey IS NOT NULL",
                          "UPDATE epochs SET wrappedKey = NULL, destroyed = ?2 WHERE epoch < ?1"
                          " AND wrappedKey IS NOT NULL"}) {
    ASSIGN_OR_RETURN(Statement destroy, database_->Prepare(sql));
    destroy.Bind(1, epoch);
    destroy.Bind(2, absl::ToUnixMillis(now));
    RETURN_IF_ERROR(destroy.Run());
  }
  return true;
}

absl::StatusOr<bool> SqliteTables::GiveUpRow(const Registry::Row& row, absl::Time now) {
  const Registry::Found found = FindById(row.id);
  RETURN_IF_ERROR(found.status());
  if (!found->has_value() || (*found)->erased || (*found)->wrappedKey != row.wrappedKey) return false;
  eraseById_.Bind(1, row.id.bytes);
  eraseById_.Bind(2, absl::ToUnixMillis(now));
  eraseById_.Bind(3, row.wrappedKey);
  RETURN_IF_ERROR(eraseById_.Run());
  return database_->changes() > 0;
}

absl::StatusOr<bool> SqliteTables::ReplaceWrapped(const Registry::Rewrapped& rewrapped) {
  const bool isSecret = rewrapped.epoch == 0;
  ASSIGN_OR_RETURN(
      Statement replace,
      database_->Prepare(isSecret ? "UPDATE registry SET wrappedSecret = ?1 WHERE wrappedSecret = ?2"
                                  : "UPDATE epochs SET wrappedKey = ?1 WHERE wrappedKey = ?2 AND epoch = ?3"));
  replace.Bind(1, rewrapped.after);
  replace.Bind(2, rewrapped.before);
  if (!isSecret) replace.Bind(3, rewrapped.epoch);
  RETURN_IF_ERROR(replace.Run());
  return database_->changes() > 0;
}

absl::StatusOr<Registry::EpochCounts> SqliteTables::CountKeys() {
  ASSIGN_OR_RETURN(Statement statement,
                   database_->Prepare("SELECT epoch, sum(state = 1), count(*) FROM"
                                      " (SELECT epoch, state FROM keyRows ORDER BY number LIMIT ?1) GROUP BY epoch"));
  statement.Bind(1, static_cast<int64_t>(Registry::kMostCounted));
  Registry::EpochCounts counts;
  uint64_t all = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) break;
    counts.counts.push_back({statement.IntegerAt(0), static_cast<uint64_t>(statement.IntegerAt(1))});
    all += static_cast<uint64_t>(statement.IntegerAt(2));
  }
  counts.isAll = all < Registry::kMostCounted;
  return counts;
}

absl::StatusOr<std::vector<Registry::Epoch>> SqliteRegistry::ReadEpochs(bool withDestroyed) {
  absl::StatusOr<std::vector<Epoch>> epochs = tables_->ReadEpochs(withDestroyed, absl::Now());
  if (!epochs.ok()) return Fail(epochs.status());
  return epochs;
}

// Runs `write` in a transaction, and commits it if the answer is true.
template <typename Write>
absl::StatusOr<bool> SqliteRegistry::CommitIf(Write write) {
  absl::StatusOr<Transaction> transaction = tables_->BeginWrite();
  if (!transaction.ok()) return Fail(transaction.status());
  absl::StatusOr<bool> done = write();
  if (!done.ok()) return Fail(done.status());
  if (!*done) return false;
  if (absl::Status status = transaction->Commit(); !status.ok()) return Fail(status);
  return true;
}

absl::StatusOr<bool> SqliteRegistry::AddEpoch(const Epoch& epoch, const ByteBuffer& secretBefore,
                                              const ByteBuffer& secret, absl::Time now) {
  return CommitIf([&]() -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(const std::optional<Identity> identity, tables_->ReadIdentity());
    ASSIGN_OR_RETURN(const std::vector<Epoch> epochs, tables_->ReadEpochs(/*withDestroyed=*/false, now));
    if (!identity.has_value() || identity->wrappedSecret != secretBefore) return false;
    if (epochs.size() != 1 || epochs.front().number + 1 != epoch.number) return false;
    RETURN_IF_ERROR(tables_->BeginTurn(epoch, secret, now));
    return true;
  });
}

absl::StatusOr<bool> SqliteRegistry::UseEpoch(int64_t number, absl::Time now) {
  return CommitIf([&] { return tables_->UseEpoch(number, now); });
}

absl::StatusOr<std::optional<Registry::TurnPlace>> SqliteRegistry::LeadTurn(int64_t epoch, const AgentId& self,
                                                                            std::chrono::milliseconds lease) {
  absl::StatusOr<std::optional<TurnPlace>> place = tables_->LeadTurn(epoch, self, lease, absl::Now());
  if (!place.ok()) return Fail(place.status());
  return place;
}

absl::StatusOr<std::vector<Registry::Found>> SqliteRegistry::ReadRowsAfter(const TurnPlace& place, size_t most) {
  absl::StatusOr<std::vector<Found>> rows = tables_->ReadRowsAfter(place, most);
  if (!rows.ok()) return Fail(rows.status());
  return rows;
}

absl::StatusOr<bool> SqliteRegistry::MoveTurn(int64_t epoch, const AgentId& self, const TurnPlace& before,
                                              const TurnPlace& after, absl::Span<const Row> rows) {
  return CommitIf([&]() -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(const bool leads, tables_->MoveTurn(epoch, self, before, after, absl::Now()));
    if (!leads) return false;
    for (const Row& row : rows) RETURN_IF_ERROR(tables_->Rewrap(row));
    return true;
  });
}

absl::StatusOr<bool> SqliteRegistry::EndTurn(int64_t epoch, const AgentId& self, absl::Time now) {
  bool isLooking = false;
  const absl::StatusOr<bool> hasEnded = CommitIf([&]() -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(const std::optional<bool> hasRows, tables_->HasRowsBefore(epoch));
    isLooking = !hasRows.has_value();
    if (hasRows.value_or(true)) return false;
    return tables_->EndTurn(epoch, self, now);
  });
  if (!isLooking) return hasEnded;
  return absl::AbortedError(StrCat("the turn ends soon: ", name_, " is looked through for rows of the epoch before"));
}

absl::StatusOr<bool> SqliteRegistry::GiveUpRow(const Row& row, absl::Time now) {
  return CommitIf([&] { return tables_->GiveUpRow(row, now); });
}

absl::StatusOr<bool> SqliteRegistry::ReplaceWrapped(absl::Span<const Rewrapped> rewrapped) {
  return CommitIf([&]() -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(const std::vector<Epoch> epochs, tables_->ReadEpochs(/*withDestroyed=*/false, absl::Now()));
    for (const Epoch& epoch : epochs) {
      const auto isIt = [&](const Rewrapped& one) { return one.epoch == epoch.number; };
      if (std::none_of(rewrapped.begin(), rewrapped.end(), isIt)) return false;
    }
    for (const Rewrapped& one : rewrapped) {
      ASSIGN_OR_RETURN(const bool isReplaced, tables_->ReplaceWrapped(one));
      if (!isReplaced) return false;
    }
    return true;
  });
}

absl::StatusOr<Registry::EpochCounts> SqliteRegistry::CountKeys() {
  absl::StatusOr<EpochCounts> counts = tables_->CountKeys();
  if (!counts.ok()) return Fail(counts.status());
  return counts;
}

}  // namespace kveil::keys
