// The tables of a registry in PostgreSQL, and the statements on them.
#pragma once

#include <array>
#include <utility>
#include <vector>

namespace kveil::keys::postgres {

// The statements of a transaction that makes the tables, if nobody else was quicker. Without `withSchema`, in a schema
// that the database's owner has made.
std::vector<const char*> StatementsThatMake(bool withSchema);

// Those of a transaction that brings the tables of an earlier format to this one, if nobody else was quicker.
std::vector<const char*> StatementsThatMigrate();

// Of each session. One row: whether the schema is there, whether it holds something, whether that is a registry.
extern const char kBeginSession[];
// Of the session in which a registry is copied. The server's clock, in Unix milliseconds, is the first column.
extern const char kBeginCopy[];
// application, version.
extern const char kReadFormat[];
inline constexpr char kApplication[] = "kveil registry";
// 1: without the agents. 2: without users and history. 3: without sources. 4: without times ahead. 5: without turns.
// 6: without KEK keys, and the erasures before an epoch.
inline constexpr int kFormat = 7;
// As 7, of a registry that was copied from SQLite: wrapped keys may have 32 bytes, which versions that know no format 8
// take for damage.
inline constexpr int kCopiedFormat = 8;
// That of a registry which is being copied here, and is not whole yet (registry_copy.h).
inline constexpr int kUnfinishedFormat = 0;

// READ COMMITTED, whatever the server's default: each statement sees what was committed before it began. All that
// comes after a lock depends on it.
inline constexpr char kBegin[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
inline constexpr char kCommit[] = "COMMIT";

// The index by which a turn's end sees whether there are rows of earlier epochs. A registry that was made by an earlier
// version lacks it: postgres_epoch_index.h builds it. Of the session that builds:
//
// locked, when no other session builds.
extern const char kBeginIndex[];
// Whether it is there, and whether it was built to its end.
extern const char kReadIndex[];
extern const char kDropIndex[];
extern const char kMakeIndex[];

// Has the server tell this session of erasures and changes. Nothing is in the notifications but that there are some.
inline constexpr char kListen[] = "LISTEN kveil_erasures";

// Prepared statements: name and text.
inline constexpr char kLockShared[] = "kveil_lock_shared";
inline constexpr char kLock[] = "kveil_lock";
inline constexpr char kReadIdentity[] = "kveil_read_identity";
inline constexpr char kReadEpochs[] = "kveil_read_epochs";
inline constexpr char kAddIdentity[] = "kveil_add_identity";
inline constexpr char kAddFirstEpoch[] = "kveil_add_first_epoch";
inline constexpr char kEpochInUse[] = "kveil_epoch_in_use";
inline constexpr char kAddEpoch[] = "kveil_add_epoch";
inline constexpr char kUseEpoch[] = "kveil_use_epoch";
inline constexpr char kLeadTurn[] = "kveil_lead_turn";
inline constexpr char kReadRowsAfter[] = "kveil_read_rows_after";
inline constexpr char kMoveTurn[] = "kveil_move_turn";
inline constexpr char kHasEpochIndex[] = "kveil_has_epoch_index";
inline constexpr char kHasRowsBefore[] = "kveil_has_rows_before";
inline constexpr char kNoteWriters[] = "kveil_note_writers";
inline constexpr char kEndTurn[] = "kveil_end_turn";
inline constexpr char kGiveUpRow[] = "kveil_give_up_row";
inline constexpr char kReplaceWrapped[] = "kveil_replace_wrapped";
inline constexpr char kCountKeys[] = "kveil_count_keys";
inline constexpr char kListKeys[] = "kveil_list_keys";
inline constexpr char kFindKekKeys[] = "kveil_find_kek_keys";
inline constexpr char kFindKekKey[] = "kveil_find_kek_key";
inline constexpr char kInsertKekKey[] = "kveil_insert_kek_key";
inline constexpr char kListKekKeys[] = "kveil_list_kek_keys";
inline constexpr char kReplaceKekKey[] = "kveil_replace_kek_key";
inline constexpr char kFindByName[] = "kveil_find_by_name";
inline constexpr char kFindById[] = "kveil_find_by_id";
inline constexpr char kAddKeyspaces[] = "kveil_add_keyspaces";
inline constexpr char kInsert[] = "kveil_insert";
inline constexpr char kReadKeyspaces[] = "kveil_read_keyspaces";
inline constexpr char kCheckErasure[] = "kveil_check_erasure";
inline constexpr char kFindNoUsers[] = "kveil_find_no_users";
inline constexpr char kCountKeylessErasures[] = "kveil_count_keyless_erasures";
inline constexpr char kErase[] = "kveil_erase";
inline constexpr char kReadmit[] = "kveil_readmit";
inline constexpr char kReadFacts[] = "kveil_read_facts";
inline constexpr char kWriteFacts[] = "kveil_write_facts";
inline constexpr char kReadSources[] = "kveil_read_sources";
inline constexpr char kLeadSource[] = "kveil_lead_source";
inline constexpr char kReleaseSource[] = "kveil_release_source";
inline constexpr char kMoveSource[] = "kveil_move_source";
inline constexpr char kDropHistory[] = "kveil_drop_history";
inline constexpr char kReadHistory[] = "kveil_read_history";
inline constexpr char kPoll[] = "kveil_poll";
inline constexpr char kNoteAgent[] = "kveil_note_agent";
inline constexpr char kDropAgents[] = "kveil_drop_agents";
inline constexpr char kAddAgent[] = "kveil_add_agent";
inline constexpr char kForgetAgent[] = "kveil_forget_agent";
inline constexpr char kReadAgents[] = "kveil_read_agents";
inline constexpr char kProbe[] = "kveil_probe";
inline constexpr char kIsWaiting[] = "kveil_is_waiting";

struct Prepared {
  const char* name;
  const char* sql;
};
extern const std::array<Prepared, 51> kPrepared;

}  // namespace kveil::keys::postgres
