#include "keys/registry/sqlite_schema.h"

#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

// Added to epochs, so that each up to 32,639 and its negative take the same two bytes: an update never makes a row
// longer.
constexpr int64_t kEpochOffset = 128;
constexpr int64_t kFirstMinute = 1'577'836'800 / 60;  // 2020-01-01 00:00 UTC; minutes since then take three bytes

// Formats. 1: without users and history. 2: without sources. 3: without times ahead in what is known of users. 4:
// without turns. 5: without KEK keys and the erasures before an epoch. 6: rows in the order of key ids, with whole ids
// and subjects in the indexes, and wrapped keys in a table of their own.
//
// scopeKeys is small, and is only ever appended to and overwritten in place, by as many bytes. secure_delete alone is
// not enough: when SQLite moves cells within and between the pages of a table that is not in order of insertion, or
// whose rows become longer, copies stay in the gaps of the pages, out of reach of a later UPDATE or DELETE (measured
// with 3.40: about 1 erasure in 200,000). What is known of users may leave such copies: it is no key, and they name
// nobody.
//   scopeAndWindow  0: a user. Else 4 * window + scope
//   minute          when it was made, since 2020
//   epochAndState   128 + epoch. Less than 0: as much, of an erased key
//   bytes           the wrapped key. Of an erased one, when it was erased: Unix milliseconds, as text with leading
//   zeros
// The indexes hold the first bytes of a random id and of an HMAC. Those of two rows may be equal.
//
// keyRows: state is 1, active, or 2, erased. Times are Unix milliseconds.
//
// Erasures, changes and readmissions have numbers of one sequence. A row in readmissions is of a subject whose erasure
// has ended, or had before the one that is in erasures.
//
// An epoch has a row in turns unless it is the first. used: when rows began to be of it. ended: when all epochs before
// were destroyed (epochs.wrappedKey is NULL then). place: the key id of the last row that is done.
// erasures: the number of the last erasure before the epoch was made.
constexpr char kTables[] =
    "PRAGMA application_id = 1802921324;"
    "PRAGMA user_version = 7;"
    "CREATE TABLE IF NOT EXISTS registry (one INTEGER PRIMARY KEY CHECK (one = 1), registryId BLOB NOT NULL,"
    "  wrappedSecret BLOB NOT NULL, created INTEGER NOT NULL, probed INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY, wrappedKey BLOB, created INTEGER NOT NULL,"
    "  destroyed INTEGER) STRICT;"
    "CREATE TABLE IF NOT EXISTS turns (epoch INTEGER PRIMARY KEY, used INTEGER, agent BLOB NOT NULL,"
    "  seen INTEGER NOT NULL, place BLOB NOT NULL, ended INTEGER, erasures INTEGER) STRICT;"
    "CREATE TABLE IF NOT EXISTS scopeKeys (number INTEGER PRIMARY KEY, keyId BLOB NOT NULL, subject BLOB NOT NULL,"
    "  scopeAndWindow INTEGER NOT NULL, minute INTEGER NOT NULL, epochAndState INTEGER NOT NULL, bytes BLOB NOT NULL)"
    "  STRICT;"
    "CREATE INDEX IF NOT EXISTS scopeKeyIds ON scopeKeys (substr(keyId, 1, 4));"
    "CREATE INDEX IF NOT EXISTS activeScopeKeys ON scopeKeys (substr(subject, 1, 4)) WHERE epochAndState > 0;"
    "CREATE INDEX IF NOT EXISTS erasedScopeKeys ON scopeKeys (substr(subject, 1, 4)) WHERE epochAndState < 0;"
    "CREATE VIEW IF NOT EXISTS keyRows AS SELECT number, keyId, subject,"
    "  CASE scopeAndWindow WHEN 0 THEN 3 ELSE scopeAndWindow & 3 END AS scope, scopeAndWindow >> 2 AS keyWindow,"
    "  abs(epochAndState) - 128 AS epoch, CASE WHEN epochAndState > 0 THEN bytes END AS wrappedKey,"
    "  CASE WHEN epochAndState > 0 THEN 1 ELSE 2 END AS state, (minute * 60 + 1577836800) * 1000 AS created,"
    "  CASE WHEN epochAndState < 0 THEN CAST(CAST(bytes AS TEXT) AS INTEGER) END AS erased, epochAndState"
    "  FROM scopeKeys;"
    "CREATE TABLE IF NOT EXISTS keyspaces (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS erasures (number INTEGER PRIMARY KEY AUTOINCREMENT, subject BLOB NOT NULL UNIQUE,"
    "  keyspace TEXT NOT NULL, erased INTEGER NOT NULL, keyCount INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS readmissions (subject BLOB PRIMARY KEY, number INTEGER NOT NULL,"
    "  time INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS users (subject BLOB PRIMARY KEY, number INTEGER NOT NULL UNIQUE,"
    "  changed INTEGER NOT NULL, facts BLOB NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS history (subject BLOB NOT NULL, number INTEGER NOT NULL, time INTEGER NOT NULL,"
    "  change BLOB NOT NULL, PRIMARY KEY (subject, number)) STRICT;"
    "CREATE TABLE IF NOT EXISTS sources (keyspace TEXT PRIMARY KEY, term INTEGER NOT NULL, agent BLOB NOT NULL,"
    "  follower TEXT NOT NULL, seen INTEGER NOT NULL, generation INTEGER NOT NULL, state BLOB NOT NULL,"
    "  current INTEGER, staleAfter INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS kekKeys (kekId BLOB PRIMARY KEY, provider TEXT NOT NULL, name TEXT NOT NULL,"
    "  keyWindow INTEGER NOT NULL, wrappedKey BLOB NOT NULL, created INTEGER NOT NULL,"
    "  UNIQUE (provider, name, keyWindow)) STRICT, WITHOUT ROWID;";
static_assert(kSqliteApplication == 1802921324 && kSqliteFormat == 7 && kEpochOffset == 128 &&
              kFirstMinute * 60 == 1577836800 && static_cast<int>(Scope::kUser) == 3);

// What whoever puts rows back from a backup runs, too. The indexes are not unique, as they hold first bytes alone. A
// row of an earlier epoch is put back: the turn begins anew, so that it comes to this row.
constexpr char kTriggers[] =
    "CREATE TRIGGER IF NOT EXISTS oneOfEach BEFORE INSERT ON scopeKeys BEGIN"
    "  SELECT RAISE(ABORT, 'this key has a row: update it') FROM scopeKeys"
    "    WHERE substr(keyId, 1, 4) = substr(NEW.keyId, 1, 4) AND keyId = NEW.keyId;"
    "  SELECT RAISE(ABORT, 'this subject has an active key') FROM scopeKeys WHERE NEW.epochAndState > 0"
    "    AND substr(subject, 1, 4) = substr(NEW.subject, 1, 4) AND subject = NEW.subject"
    "    AND scopeAndWindow = NEW.scopeAndWindow AND epochAndState > 0; END;"
    "CREATE TRIGGER IF NOT EXISTS addedOfEarlierEpoch AFTER INSERT ON scopeKeys"
    "  WHEN NEW.epochAndState BETWEEN 1 AND (SELECT 127 + max(epoch) FROM epochs) BEGIN"
    "  UPDATE turns SET place = x'' WHERE ended IS NULL AND place <> x''; END;"
    "CREATE TRIGGER IF NOT EXISTS madeOfEarlierEpoch AFTER UPDATE ON scopeKeys"
    "  WHEN NEW.epochAndState BETWEEN 1 AND (SELECT 127 + max(epoch) FROM epochs) BEGIN"
    "  UPDATE turns SET place = x'' WHERE ended IS NULL AND place <> x''; END;";

// Of format 6 and earlier.
constexpr char kSetAside[] =
    "DROP INDEX IF EXISTS activeEpochs; DROP INDEX IF EXISTS activeScopeKeys; DROP INDEX IF EXISTS erasedScopeKeys;"
    "ALTER TABLE scopeKeys RENAME TO scopeKeysBefore;";
// Row by row, with the indexes there: to make an index at once takes memory for all of it. A wrapped key that is
// missing stays damage. A turn that is under way begins anew, as its place was in the order of ids.
constexpr char kMoveRows[] =
    "INSERT INTO scopeKeys (keyId, subject, scopeAndWindow, minute, epochAndState, bytes)"
    "  SELECT keyId, subject, CASE WHEN scope = 3 AND keyWindow = 0 THEN 0 ELSE 4 * keyWindow + scope END,"
    "  created / 60000 - 26297280, CASE state WHEN 1 THEN 128 + epoch ELSE -128 - epoch END,"
    "  CASE state WHEN 1 THEN coalesce(bytes, x'') ELSE CAST(coalesce(erased, created) AS BLOB) END"
    "  FROM scopeKeysBefore LEFT JOIN wrappedKeys ON wrappedKeys.number = wrappedKey;"
    "DROP TABLE scopeKeysBefore; DROP TABLE wrappedKeys;"
    "UPDATE turns SET place = x'' WHERE ended IS NULL;";
static_assert(kFirstMinute == 26297280);

}  // namespace

absl::Status MakeTables(Database& database) {
  ASSIGN_OR_RETURN(const int64_t isEarlier,
                   database.QueryInteger("SELECT count(*) FROM sqlite_schema WHERE name = 'wrappedKeys'"));
  if (isEarlier != 0) RETURN_IF_ERROR(database.Execute(kSetAside));
  RETURN_IF_ERROR(database.Execute(kTables));
  ASSIGN_OR_RETURN(const int64_t hasErasures,
                   database.QueryInteger("SELECT count(*) FROM pragma_table_info('turns') WHERE name = 'erasures'"));
  if (hasErasures == 0) RETURN_IF_ERROR(database.Execute("ALTER TABLE turns ADD COLUMN erasures INTEGER"));
  if (isEarlier != 0) RETURN_IF_ERROR(database.Execute(kMoveRows));
  return database.Execute(kTriggers);
}

int64_t StoredScope(Scope scope, int64_t window) {
  return scope == Scope::kUser && window == 0 ? 0 : 4 * window + static_cast<int64_t>(scope);
}

int64_t StoredEpoch(int64_t epoch, bool isErased) {
  const int64_t stored = kEpochOffset + epoch;
  return isErased ? -stored : stored;
}

int64_t StoredMinute(absl::Time time) { return absl::ToUnixSeconds(time) / 60 - kFirstMinute; }

std::string StoredErasure(absl::Time time) { return StrCat(absl::ToUnixMillis(time)); }

}  // namespace kveil::keys
