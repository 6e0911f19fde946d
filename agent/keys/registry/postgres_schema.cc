// Everything is in a schema of its own, so that nothing depends on the search path.
#include "keys/registry/postgres_schema.h"

namespace kveil::keys::postgres {
namespace {

// "kveil" as a number. Advisory locks belong to one database.
#define KVEIL_LOCK "461547858284"
#define KVEIL_INDEX_LOCK "461547858285"
#define KVEIL_NOW "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
// What a row is read as.
#define KVEIL_ROW                                                                                \
  "k.key_id, k.scope::bigint, k.subject, k.key_window, k.epoch, k.state::bigint, k.wrapped_key," \
  " (SELECT u.facts FROM kveil.users u WHERE u.subject = k.subject AND k.state = 1) AS facts"

// A row per agent. Each is written about once a second, in place while its page has room. seen is by the server's
// clock.
#define KVEIL_AGENTS                                                                           \
  "CREATE TABLE IF NOT EXISTS kveil.agents (agent bytea PRIMARY KEY, name bytea NOT NULL,"     \
  " cache_ttl bigint NOT NULL, confirmed bigint NOT NULL, seen bigint NOT NULL, epoch bigint)" \
  " WITH (fillfactor = 20)",                                                                   \
      "ALTER TABLE kveil.agents ADD COLUMN IF NOT EXISTS epoch bigint"

// A row per epoch but the first. used: when rows began to be of it. ended: when all epochs before were destroyed.
// erasures: the number of the last erasure before it was made. Times are by the server's clock.
#define KVEIL_TURNS                                                                                                  \
  "CREATE TABLE IF NOT EXISTS kveil.turns (epoch bigint PRIMARY KEY, used bigint, agent bytea NOT NULL, seen bigint" \
  " NOT NULL, place bytea NOT NULL, ended bigint, erasures bigint) WITH (fillfactor = 20)"
// A row per key that a KEK has wrapped.
#define KVEIL_KEK_KEYS                                                                                              \
  "CREATE TABLE IF NOT EXISTS kveil.kek_keys (kek_id bytea PRIMARY KEY, key_window bigint NOT NULL, created bigint" \
  " NOT NULL, provider bytea NOT NULL, name bytea NOT NULL, wrapped_key bytea NOT NULL,"                            \
  " UNIQUE (provider, name, key_window))"
#define KVEIL_KEK_KEY "SELECT kek_id, provider, name, key_window, wrapped_key FROM kveil.kek_keys"
#define KVEIL_NEWEST "(SELECT max(epoch) FROM kveil.epochs)"
#define KVEIL_EPOCH_IN_USE                                                                      \
  "(SELECT max(e.epoch) FROM kveil.epochs e WHERE NOT EXISTS (SELECT FROM kveil.turns t WHERE " \
  "t.epoch = e.epoch AND t.used IS NULL))"

// What is known of users. Its numbers and those of erasures are of one sequence. Old versions go soon, as those of
// scope_keys do.
#define KVEIL_USERS                                                                                                \
  "CREATE TABLE IF NOT EXISTS kveil.users (number bigint NOT NULL UNIQUE, changed bigint NOT NULL,"                \
  " subject bytea PRIMARY KEY, facts bytea NOT NULL)"                                                              \
  " WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)",                                   \
      "CREATE TABLE IF NOT EXISTS kveil.history (number bigint NOT NULL, time bigint NOT NULL, subject bytea NOT " \
      "NULL,"                                                                                                      \
      " change bytea NOT NULL, PRIMARY KEY (subject, number))"                                                     \
      " WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)"

// Of subjects whose erasure has ended, or had before the one that is in erasures. The number is one of those as well.
#define KVEIL_READMISSIONS                                                                            \
  "CREATE TABLE IF NOT EXISTS kveil.readmissions (subject bytea PRIMARY KEY, number bigint NOT NULL," \
  " time bigint NOT NULL)"

// A row per topic that consents come from. seen and current are by the server's clock.
#define KVEIL_SOURCES                                                                                       \
  "CREATE TABLE IF NOT EXISTS kveil.sources (keyspace bytea PRIMARY KEY, term bigint NOT NULL, agent bytea" \
  " NOT NULL, follower bytea NOT NULL, seen bigint NOT NULL, generation bigint NOT NULL, state bytea NOT"   \
  " NULL, current bigint, stale_after bigint NOT NULL) WITH (fillfactor = 20)"
#define KVEIL_NEXT_NUMBER "nextval(pg_get_serial_sequence('kveil.erasures', 'number'))"

// $1 to $5: those of facts that replace what is known. $2: the numbers of the facts that are to be replaced.
#define KVEIL_ASKED_FACTS                                                                                   \
  "WITH asked_all AS MATERIALIZED (SELECT n.subject, n.facts, n.change"                                     \
  " FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[]) AS n (subject, number, facts, change)" \
  " LEFT JOIN LATERAL (SELECT number FROM kveil.erasures WHERE subject = n.subject LIMIT 1) e ON true"      \
  " LEFT JOIN LATERAL (SELECT number FROM kveil.users WHERE subject = n.subject LIMIT 1) u ON true"         \
  " WHERE e.number IS NULL AND coalesce(u.number, 0) = n.number"
#define KVEIL_WRITTEN_FACTS                                                                    \
  " written AS (INSERT INTO kveil.users (number, changed, subject, facts)"                     \
  " SELECT " KVEIL_NEXT_NUMBER                                                                 \
  ", $5::bigint, subject, facts FROM asked"                                                    \
  " ON CONFLICT (subject) DO UPDATE SET number = excluded.number, changed = excluded.changed," \
  " facts = excluded.facts RETURNING subject, number),"                                        \
  " noted AS (INSERT INTO kveil.history (number, time, subject, change)"                       \
  " SELECT written.number, $5::bigint, asked.subject, asked.change"                            \
  " FROM written JOIN asked ON asked.subject = written.subject WHERE length(asked.change) > 0)"

// state: 1 active, 2 erased (wrapped_key is NULL). Times are Unix milliseconds. Keyspaces are bytes, so that no
// encoding stands in the way.
//
// wrapped_key is the last column: when the server removes an old version of a row from a page, it moves the page's
// other rows over the end of it.
//
// autovacuum: the server removes old versions, which hold destroyed keys, within a minute or so. By default it waits
// until a fifth of the table is old.
constexpr const char* kMakeTables[] = {
    "CREATE TABLE IF NOT EXISTS kveil.format (one boolean PRIMARY KEY CHECK (one), application text NOT NULL,"
    " version bigint NOT NULL, probed bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kveil.registry (one boolean PRIMARY KEY CHECK (one), registry_id bytea NOT NULL,"
    " wrapped_secret bytea NOT NULL, created bigint NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kveil.epochs (epoch bigint PRIMARY KEY, created bigint NOT NULL, destroyed bigint,"
    " wrapped_key bytea)",
    "CREATE TABLE IF NOT EXISTS kveil.scope_keys (key_window bigint NOT NULL, epoch bigint NOT NULL,"
    " created bigint NOT NULL, erased bigint, scope smallint NOT NULL, state smallint NOT NULL,"
    " key_id bytea PRIMARY KEY, subject bytea NOT NULL, wrapped_key bytea)"
    " WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)",
    "CREATE UNIQUE INDEX IF NOT EXISTS active_scope_keys ON kveil.scope_keys (subject, key_window) WHERE state = 1",
    "CREATE INDEX IF NOT EXISTS erased_scope_keys ON kveil.scope_keys (subject) WHERE state = 2",
    "CREATE INDEX IF NOT EXISTS active_epochs ON kveil.scope_keys (epoch) WHERE state = 1",
    "CREATE TABLE IF NOT EXISTS kveil.keyspaces (name bytea PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS kveil.erasures (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " erased bigint NOT NULL, key_count bigint NOT NULL, subject bytea NOT NULL UNIQUE, keyspace bytea NOT NULL)",
    KVEIL_AGENTS,
    KVEIL_USERS,
    KVEIL_SOURCES,
    KVEIL_TURNS,
    KVEIL_KEK_KEYS,
    KVEIL_READMISSIONS,
    "INSERT INTO kveil.format VALUES (true, 'kveil registry', 7, 0) ON CONFLICT DO NOTHING",
};
static_assert(kFormat == 7);

}  // namespace

std::vector<const char*> StatementsThatMake(bool withSchema) {
  std::vector<const char*> statements = {kBegin, "SELECT pg_advisory_xact_lock(" KVEIL_LOCK ")"};
  // Not asked for when it is there: the privilege would be needed all the same.
  if (withSchema) statements.push_back("CREATE SCHEMA IF NOT EXISTS kveil");
  statements.insert(statements.end(), std::begin(kMakeTables), std::end(kMakeTables));
  statements.push_back(kCommit);
  return statements;
}

// Tables are changed in the order in which kPrepared names them: another agent, which is quicker, has locks of the
// first ones when it comes to the others.
std::vector<const char*> StatementsThatMigrate() {
  return {kBegin,
          "SELECT pg_advisory_xact_lock(" KVEIL_LOCK ")",
          KVEIL_TURNS,
          "ALTER TABLE kveil.turns ADD COLUMN IF NOT EXISTS erasures bigint",
          KVEIL_USERS,
          KVEIL_SOURCES,
          KVEIL_KEK_KEYS,
          KVEIL_AGENTS,
          KVEIL_READMISSIONS,
          "UPDATE kveil.format SET version = 7 WHERE version < 7",
          kCommit};
}

// Time limits: beyond the deadlines of the agent, whose connection they free, and below its patience with a connection.
// client_min_messages: only a warning says that the wait for a standby was ended.
// Keepalives: a lock of an agent that is cut off in the middle of a transaction is freed soon. synchronous_commit: what
// was answered is durable, even on a server whose default says otherwise. Plans: always by index. A plan that was made
// while the table was small must not read all of a large one, and one that the planner thinks expensive is not worth
// compiling.
#define KVEIL_DURABLE                                                                                 \
  "set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '5', false)," \
  " set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '20000', false),"  \
  " set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'" \
  " ELSE current_setting('synchronous_commit') END, false),"                                          \
  " set_config('client_min_messages', 'warning', false)"
const char kBeginSession[] =
    "SELECT to_regnamespace('kveil') IS NOT NULL,"
    " EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('kveil')),"
    " to_regclass('kveil.format') IS NOT NULL,"
    " set_config('statement_timeout', '2000', false), set_config('lock_timeout', '1000', false),"
    " set_config('idle_in_transaction_session_timeout', '5000', false),"
    " " KVEIL_DURABLE
    ", set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),"
    " set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),"
    " set_config('enable_material', 'off', false), set_config('enable_bitmapscan', 'off', false),"
    " set_config('jit', 'off', false)";

// It may take long, and is the only one that does.
const char kBeginIndex[] = "SELECT pg_try_advisory_lock(" KVEIL_INDEX_LOCK
                           "), set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)";
const char kReadIndex[] =
    "SELECT to_regclass('kveil.active_epochs') IS NOT NULL, EXISTS (SELECT FROM pg_index WHERE indisvalid"
    " AND indexrelid = to_regclass('kveil.active_epochs'))";
const char kDropIndex[] = "DROP INDEX CONCURRENTLY kveil.active_epochs";
const char kMakeIndex[] = "CREATE INDEX CONCURRENTLY active_epochs ON kveil.scope_keys (epoch) WHERE state = 1";

// Longer than those of an agent's session.
const char kBeginCopy[] =
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, set_config('statement_timeout', '300000', false),"
    " set_config('lock_timeout', '10000', false), " KVEIL_DURABLE;

const char kReadFormat[] = "SELECT application, version FROM kveil.format";

const std::array<Prepared, 51> kPrepared = {{
    {kLockShared, "SELECT pg_advisory_xact_lock_shared(" KVEIL_LOCK ")"},
    {kLock, "SELECT pg_advisory_xact_lock(" KVEIL_LOCK ")"},
    {kReadIdentity, "SELECT registry_id, wrapped_secret FROM kveil.registry"},
    {kReadEpochs,
     "SELECT e.epoch, e.wrapped_key, t.epoch IS NULL OR t.used IS NOT NULL, " KVEIL_NOW " - e.created, " KVEIL_NOW
     " - coalesce(e.destroyed, t.ended), t.erasures FROM kveil.epochs e LEFT JOIN kveil.turns t ON t.epoch = e.epoch"
     " WHERE e.wrapped_key IS NOT NULL OR $1::bigint <> 0 AND e.epoch >= " KVEIL_NEWEST " - $2::bigint"
     " ORDER BY e.epoch"},
    {kAddIdentity,
     "INSERT INTO kveil.registry (one, registry_id, wrapped_secret, created) VALUES (true, $1, $2, $3)"
     " ON CONFLICT DO NOTHING"},
    // Only beside the identity that it belongs to.
    {kAddFirstEpoch,
     "INSERT INTO kveil.epochs (epoch, wrapped_key, created) SELECT $2::bigint, $3::bytea, $4::bigint"
     " WHERE (SELECT registry_id FROM kveil.registry) = $1 ON CONFLICT DO NOTHING"},
    {kEpochInUse, "SELECT " KVEIL_EPOCH_IN_USE},
    // A row each, if the registry is as it has to be.
    {kAddEpoch,
     "WITH next AS (INSERT INTO kveil.epochs (epoch, wrapped_key, created) SELECT $1::bigint, $2::bytea, " KVEIL_NOW
     " WHERE (SELECT count(*) FROM kveil.epochs WHERE wrapped_key IS NOT NULL) = 1"
     " AND " KVEIL_NEWEST " = $1::bigint - 1 AND (SELECT wrapped_secret FROM kveil.registry) = $3::bytea"
     " RETURNING epoch),"
     " turn AS (INSERT INTO kveil.turns (epoch, agent, seen, place, erasures) SELECT epoch, '', 0, '',"
     " (SELECT coalesce(max(number), 0) FROM kveil.erasures) FROM next)"
     " UPDATE kveil.registry SET wrapped_secret = $4::bytea WHERE EXISTS (SELECT FROM next) RETURNING one"},
    {kUseEpoch, "UPDATE kveil.turns SET used = " KVEIL_NOW
                " WHERE epoch = $1::bigint AND used IS NULL AND epoch = " KVEIL_NEWEST " RETURNING epoch"},
    {kLeadTurn,
     "UPDATE kveil.turns SET agent = $2::bytea, seen = " KVEIL_NOW " WHERE epoch = $1::bigint AND used IS NOT NULL"
     " AND epoch = " KVEIL_NEWEST " AND (agent = $2::bytea OR abs(" KVEIL_NOW
     " - seen) >= $3::bigint) RETURNING place"},
    {kReadRowsAfter,
     "SELECT row_number() OVER (ORDER BY k.key_id), k.key_id, k.scope::bigint, k.subject, k.key_window, k.epoch,"
     " k.state::bigint, k.wrapped_key, ''::bytea FROM (SELECT * FROM kveil.scope_keys WHERE key_id > $1::bytea"
     " ORDER BY key_id LIMIT $2::bigint) k ORDER BY k.key_id"},
    // The statement's own order: the turn's row first, for which another agent would wait, then the keys. "epoch + 0":
    // by their ids, and never by active_epochs. max(): a row also of a subject that was not erased.
    {kMoveTurn,
     "WITH mine AS MATERIALIZED (UPDATE kveil.turns SET place = $4::bytea, seen = " KVEIL_NOW
     " WHERE epoch = $1::bigint AND agent = $2::bytea AND place = $3::bytea AND used IS NOT NULL AND epoch ="
     " " KVEIL_NEWEST " RETURNING epoch),"
     " moved AS (UPDATE kveil.scope_keys k SET epoch = $1::bigint, (state, erased, wrapped_key) ="
     " (SELECT CASE WHEN e.erased IS NULL THEN 1 ELSE 2 END::smallint, e.erased,"
     " CASE WHEN e.erased IS NULL THEN ($6::bytea[])[array_position($5::bytea[], k.key_id)] END"
     " FROM (SELECT max(erased) AS erased FROM kveil.erasures WHERE subject = k.subject) e)"
     " WHERE k.key_id = ANY ($5::bytea[]) AND k.state = 1 AND k.epoch + 0 < $1::bigint AND EXISTS (SELECT FROM mine))"
     " SELECT epoch FROM mine"},
    {kHasEpochIndex, "SELECT FROM pg_index WHERE indisvalid AND indexrelid = to_regclass('kveil.active_epochs')"},
    {kHasRowsBefore, "SELECT EXISTS (SELECT FROM kveil.scope_keys WHERE state = 1 AND epoch < $1::bigint)"},
    // Whether another program has written rows, and not committed them. Those who write under the lock have. A
    // statement of its own before the next one, which then sees what was committed until now.
    {kNoteWriters,
     "SELECT set_config('kveil.has_writers', EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation'"
     " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
     " AND relation = to_regclass('kveil.scope_keys') AND pid IS DISTINCT FROM pg_backend_pid() AND granted AND mode IN"
     " ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))::text, true)"},
    // A row while the agent leads: whether the turn has ended, and whether there are writers.
    {kEndTurn,
     "WITH found AS MATERIALIZED (SELECT current_setting('kveil.has_writers') = 'true' AS has_writers,"
     " EXISTS (SELECT FROM kveil.scope_keys WHERE state = 1 AND epoch < $1::bigint) AS has_rows),"
     " mine AS MATERIALIZED (UPDATE kveil.turns t SET seen = " KVEIL_NOW
     ", ended = CASE WHEN NOT f.has_writers AND NOT f.has_rows THEN " KVEIL_NOW
     " END FROM found f WHERE t.epoch = $1::bigint AND t.agent = $2::bytea AND t.place = 'done' AND t.ended IS NULL"
     " AND t.epoch = " KVEIL_NEWEST " RETURNING t.ended IS NOT NULL AS has_ended, f.has_writers),"
     " gone AS (UPDATE kveil.epochs SET wrapped_key = NULL, destroyed = " KVEIL_NOW
     " WHERE epoch < $1::bigint AND wrapped_key IS NOT NULL AND EXISTS (SELECT FROM mine WHERE has_ended))"
     " SELECT has_ended, has_writers FROM mine"},
    {kGiveUpRow,
     "UPDATE kveil.scope_keys SET state = 2, erased = $3::bigint, wrapped_key = NULL WHERE key_id = $1::bytea"
     " AND state = 1 AND coalesce(wrapped_key, '') = $2::bytea RETURNING epoch"},
    // All of them, if each is as it was: a row per registry. Epoch 0 stands for the registry's secret.
    {kReplaceWrapped,
     "WITH asked AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) AS a (epoch, before,"
     " after)), there AS MATERIALIZED (SELECT epoch, wrapped_key FROM kveil.epochs WHERE wrapped_key IS NOT NULL"
     " UNION ALL SELECT 0, wrapped_secret FROM kveil.registry), same AS MATERIALIZED (SELECT count(*) FILTER (WHERE"
     " a.before = t.wrapped_key) = count(*) AS ok FROM asked a FULL JOIN there t ON t.epoch = a.epoch),"
     " changed AS (UPDATE kveil.epochs e SET wrapped_key = a.after FROM asked a WHERE e.epoch = a.epoch"
     " AND (SELECT ok FROM same))"
     " UPDATE kveil.registry SET wrapped_secret = (SELECT after FROM asked WHERE epoch = 0) WHERE (SELECT ok FROM"
     " same) RETURNING one"},
    {kCountKeys,
     "SELECT epoch, count(*) FILTER (WHERE state = 1), count(*) FROM (SELECT epoch, state FROM kveil.scope_keys"
     " ORDER BY key_id LIMIT $1::bigint) k GROUP BY epoch ORDER BY epoch"},
    {kListKeys,
     "SELECT key_id, scope::bigint, subject, key_window, epoch, state::bigint, created, erased FROM kveil.scope_keys"
     " WHERE key_id >= $1::bytea ORDER BY key_id LIMIT $2::bigint"},
    {kFindKekKeys, KVEIL_KEK_KEY " WHERE kek_id = ANY ($1::bytea[])"},
    {kFindKekKey, KVEIL_KEK_KEY " WHERE provider = $1::bytea AND name = $2::bytea AND key_window = $3::bigint"},
    {kInsertKekKey,
     "INSERT INTO kveil.kek_keys (kek_id, provider, name, key_window, wrapped_key, created) VALUES ($1::bytea,"
     " $2::bytea, $3::bytea, $4::bigint, $5::bytea, $6::bigint) ON CONFLICT (provider, name, key_window) DO NOTHING"},
    {kListKekKeys, KVEIL_KEK_KEY " WHERE kek_id > $3::bytea AND provider = $1::bytea AND ($2::bytea = '' OR name ="
                                 " $2::bytea) ORDER BY kek_id LIMIT $4::bigint"},
    {kReplaceKekKey,
     "UPDATE kveil.kek_keys SET wrapped_key = $3::bytea WHERE kek_id = $1::bytea AND wrapped_key = $2::bytea"
     " RETURNING kek_id"},
    // Here and below, LIMIT or OFFSET in a LATERAL has the rows looked up one by one, by index. A plain join is also
    // planned the other way round, through the whole table.
    {kFindByName,
     "SELECT n.i, k.* FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS n (subject, key_window, i)"
     " CROSS JOIN LATERAL (SELECT " KVEIL_ROW
     " FROM kveil.scope_keys k WHERE k.subject = n.subject AND k.key_window = n.key_window AND k.state = 1 LIMIT 1) k"},
    {kFindById,
     "SELECT n.i, k.* FROM unnest($1::bytea[]) WITH ORDINALITY AS n (key_id, i)"
     " CROSS JOIN LATERAL (SELECT " KVEIL_ROW " FROM kveil.scope_keys k WHERE k.key_id = n.key_id LIMIT 1) k"},
    // Here and below, in order: two transactions that add the same rows never wait for each other crosswise.
    {kAddKeyspaces,
     "INSERT INTO kveil.keyspaces SELECT DISTINCT n.name FROM unnest($1::bytea[]) AS n (name)"
     " WHERE NOT EXISTS (SELECT FROM kveil.keyspaces k WHERE k.name = n.name) ORDER BY 1 ON CONFLICT DO NOTHING"},
    {kInsert,
     "INSERT INTO kveil.scope_keys (key_window, epoch, created, erased, scope, state, key_id, subject, wrapped_key)"
     " SELECT n.key_window, n.epoch, $7::bigint, CASE WHEN e.number IS NOT NULL THEN $7::bigint END,"
     " n.scope::smallint, CASE WHEN e.number IS NULL THEN 1 ELSE 2 END, n.key_id, n.subject,"
     " CASE WHEN e.number IS NULL THEN n.wrapped_key END"
     " FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[]) WITH ORDINALITY"
     " AS n (key_id, scope, subject, key_window, epoch, wrapped_key, i)"
     " LEFT JOIN LATERAL (SELECT number FROM kveil.erasures WHERE subject = n.subject AND n.scope = 3 LIMIT 1) e ON "
     "true"
     " LEFT JOIN LATERAL (SELECT k.state FROM kveil.scope_keys k"
     " WHERE k.subject = n.subject AND k.key_window = n.key_window AND k.state = 1 LIMIT 1) k ON true"
     " WHERE k.state IS NULL AND n.epoch = " KVEIL_EPOCH_IN_USE " ORDER BY n.subject, n.key_window, n.i"
     " ON CONFLICT (subject, key_window) WHERE state = 1 DO NOTHING"},
    {kReadKeyspaces, "SELECT name FROM kveil.keyspaces ORDER BY name"},
    // Whether no keyspace is missing among those given, and the subjects that were erased before. One row at least.
    {kCheckErasure,
     "SELECT now.complete, e.subject, e.erased, e.number"
     " FROM (SELECT NOT EXISTS (SELECT FROM kveil.keyspaces WHERE name <> ALL ($2::bytea[])) AS complete) AS now"
     " LEFT JOIN LATERAL (SELECT subject, erased, number FROM kveil.erasures WHERE subject = ANY ($1::bytea[])"
     " OFFSET 0) e ON true"},
    // A row if one of the subjects is a topic or a cluster.
    {kFindNoUsers,
     "SELECT key_id FROM kveil.scope_keys WHERE subject = ANY ($1::bytea[]) AND state = 1 AND scope <> 3 UNION ALL"
     " SELECT key_id FROM kveil.scope_keys WHERE subject = ANY ($1::bytea[]) AND state = 2 AND scope <> 3 LIMIT 1"},
    {kCountKeylessErasures,
     "SELECT count(*) FROM (SELECT FROM kveil.erasures WHERE key_count = 0 LIMIT $1::bigint) AS n"},
    // With $4 = 1, only when no keyspace is missing. With $5 = 1, also of subjects without a key. What is known goes
    // also of those who were erased before: an agent of an older version, which does not know of it, may have done so.
    // Where somebody has put keys of these back, they are erased anew: with another number, which all agents hear of.
    {kErase,
     "WITH asked AS MATERIALIZED (SELECT n.subject, n.keyspace, e.number AS before"
     " FROM unnest($1::bytea[], $2::bytea[]) AS n (subject, keyspace)"
     " LEFT JOIN LATERAL (SELECT number FROM kveil.erasures WHERE subject = n.subject LIMIT 1) e ON true"
     " WHERE ($4::bigint = 0 OR NOT EXISTS (SELECT FROM kveil.keyspaces WHERE name <> ALL ($2::bytea[])))),"
     " gone AS (UPDATE kveil.scope_keys SET wrapped_key = NULL, state = 2, erased = $3::bigint"
     " WHERE subject = ANY (ARRAY(SELECT asked.subject FROM asked)) AND state = 1"
     " RETURNING subject),"
     " forgotten AS (DELETE FROM kveil.users WHERE subject = ANY (ARRAY(SELECT asked.subject FROM asked))"
     " RETURNING subject),"
     " dropped AS (DELETE FROM kveil.history WHERE subject = ANY (ARRAY(SELECT asked.subject FROM asked))),"
     // Each subject once: the join below compares every one with every one.
     " known AS (SELECT subject, sum(keys)::bigint AS keys FROM (SELECT subject, 1 AS keys FROM gone"
     " UNION ALL SELECT subject, 0 FROM forgotten UNION ALL SELECT subject, 0 FROM asked WHERE $5::bigint <> 0) AS n"
     " GROUP BY subject),"
     " added AS (INSERT INTO kveil.erasures (erased, key_count, subject, keyspace)"
     " SELECT $3::bigint, known.keys, asked.subject, asked.keyspace"
     " FROM known JOIN asked ON asked.subject = known.subject AND (asked.before IS NULL OR known.keys > 0)"
     " ON CONFLICT (subject) DO UPDATE SET number = DEFAULT, erased = excluded.erased, key_count = excluded.key_count"
     " RETURNING subject, key_count, number)"
     " SELECT subject, key_count, number, pg_notify('kveil_erasures', '') FROM added"},
    // An agent that was not heard of for twice its cache_ttl has no keys. The change has a number, so that the numbers
    // go on growing without the erasure's.
    {kReadmit,
     "WITH asked AS MATERIALIZED (SELECT subject, erased, number <= coalesce((SELECT min(confirmed) FROM kveil.agents"
     " WHERE seen >= " KVEIL_NOW " - 2 * cache_ttl), number) AS is_over"
     " FROM kveil.erasures WHERE subject = ANY ($1::bytea[])),"
     " gone AS (DELETE FROM kveil.erasures WHERE subject = ANY (ARRAY(SELECT asked.subject FROM asked WHERE is_over))"
     " RETURNING subject),"
     " written AS (INSERT INTO kveil.users (number, changed, subject, facts)"
     " SELECT " KVEIL_NEXT_NUMBER ", $2::bigint, subject, ''::bytea FROM gone ON CONFLICT (subject) DO UPDATE"
     " SET number = excluded.number, changed = excluded.changed RETURNING subject, number),"
     " noted AS (INSERT INTO kveil.readmissions (subject, number, time) SELECT subject, number, $2::bigint FROM written"
     " ON CONFLICT (subject) DO UPDATE SET number = excluded.number, time = excluded.time)"
     " SELECT subject, erased, is_over FROM asked"},
    {kReadFacts,
     "SELECT n.i, u.facts, u.number, e.erased, r.number FROM unnest($1::bytea[]) WITH ORDINALITY AS n (subject, i)"
     " LEFT JOIN LATERAL (SELECT facts, number FROM kveil.users WHERE subject = n.subject LIMIT 1) u ON true"
     " LEFT JOIN LATERAL (SELECT erased FROM kveil.erasures WHERE subject = n.subject LIMIT 1) e ON true"
     " LEFT JOIN LATERAL (SELECT number FROM kveil.readmissions WHERE subject = n.subject LIMIT 1) r ON true"},
    // $2: the numbers of the facts that are to be replaced.
    {kWriteFacts, KVEIL_ASKED_FACTS "), asked AS (SELECT * FROM asked_all)," KVEIL_WRITTEN_FACTS
                                    " SELECT subject, number, pg_notify('kveil_erasures', '') FROM written"},
    {kReadSources,
     "SELECT keyspace, term, generation, CASE WHEN $2::bigint <> 0 THEN state ELSE '' END, follower, " KVEIL_NOW
     " - current, stale_after FROM kveil.sources ORDER BY keyspace LIMIT $1::bigint"},
    // A row if this agent follows from now on.
    {kLeadSource,
     "INSERT INTO kveil.sources AS s (keyspace, term, agent, follower, seen, generation, state, stale_after)"
     " SELECT $1::bytea, 1, $2::bytea, $3::bytea, " KVEIL_NOW ", 0, '', 0"
     " WHERE (SELECT count(*) FROM kveil.sources o WHERE o.keyspace <> $1::bytea) < $5::bigint"
     " ON CONFLICT (keyspace) DO UPDATE SET term = s.term + 1, agent = excluded.agent, follower = excluded.follower,"
     " seen = excluded.seen WHERE s.agent = excluded.agent OR abs(excluded.seen - s.seen) >= $4::bigint"
     " RETURNING s.term, s.generation, s.state, s.follower, " KVEIL_NOW " - s.current, s.stale_after"},
    {kReleaseSource,
     "UPDATE kveil.sources SET seen = 0 WHERE keyspace = $1::bytea AND term = $2::bigint AND agent = $3::bytea"},
    // All or nothing: no row when the term is over, the state is not the one that it goes on from, or when one of the
    // facts cannot be written. Its parameters go on from those of kWriteFacts.
    {kMoveSource, KVEIL_ASKED_FACTS
     "), mine AS MATERIALIZED (SELECT keyspace FROM kveil.sources WHERE keyspace = $6::bytea AND term = $7::bigint"
     " AND state = $12::bytea AND agent = $13::bytea AND (SELECT count(*) FROM asked_all) = cardinality($1::bytea[]) "
     "FOR UPDATE),"
     " asked AS MATERIALIZED (SELECT * FROM asked_all WHERE EXISTS (SELECT FROM mine)),"
     " moved AS (UPDATE kveil.sources s SET seen = " KVEIL_NOW ", state = $9::bytea, stale_after = $11::bigint,"
     " generation = $8::bigint, current = CASE WHEN $10::bigint >= 0 THEN " KVEIL_NOW " - $10::bigint"
     " WHEN s.generation = $8::bigint THEN s.current END"
     " WHERE s.keyspace IN (SELECT keyspace FROM mine) RETURNING s.keyspace)," KVEIL_WRITTEN_FACTS
     " SELECT w.subject, w.number, CASE WHEN w.number IS NOT NULL THEN pg_notify('kveil_erasures', '') END"
     " FROM moved LEFT JOIN written w ON true"},
    {kDropHistory,
     "DELETE FROM kveil.history h USING unnest($1::bytea[]) AS n (subject)"
     " CROSS JOIN LATERAL (SELECT number FROM kveil.history WHERE subject = n.subject ORDER BY number DESC"
     " LIMIT 1 OFFSET $2::bigint) last WHERE h.subject = n.subject AND h.number <= last.number"},
    {kReadHistory,
     "SELECT number, time, change FROM kveil.history WHERE subject = $1::bytea ORDER BY number LIMIT $2::bigint"},
    // One row at least. The file number changes when the table is restored or rebuilt. The keys' states are constants:
    // each has an index of its own.
    {kPoll,
     "SELECT now.file, now.last, n.number, k.key_id, n.is_erased"
     " FROM (SELECT pg_relation_filenode('kveil.erasures')::bigint AS file,"
     " greatest((SELECT max(number) FROM kveil.erasures), (SELECT max(number) FROM kveil.users), 0) AS last) AS now"
     " LEFT JOIN LATERAL ("
     "(SELECT number, subject, true AS is_erased FROM kveil.erasures WHERE number > $1::bigint ORDER BY number"
     " LIMIT 1024) UNION ALL"
     " (SELECT number, subject, false FROM kveil.users WHERE number > $1::bigint ORDER BY number LIMIT 1024)"
     " ORDER BY number LIMIT 1024) n ON true"
     " LEFT JOIN LATERAL (SELECT s.key_id FROM kveil.scope_keys s WHERE n.is_erased AND s.subject = n.subject"
     " AND s.state = 2 UNION ALL SELECT s.key_id FROM kveil.scope_keys s WHERE NOT n.is_erased"
     " AND s.subject = n.subject AND s.state = 1 OFFSET 0) k ON true"},
    {kNoteAgent,
     "UPDATE kveil.agents SET name = $2::bytea, cache_ttl = $3::bigint, confirmed = $4::bigint, epoch = $5::bigint,"
     " seen = " KVEIL_NOW " WHERE agent = $1::bytea RETURNING seen"},
    {kDropAgents, "DELETE FROM kveil.agents WHERE seen < " KVEIL_NOW " - cache_ttl - $1::bigint"},
    {kAddAgent,
     "INSERT INTO kveil.agents (agent, name, cache_ttl, confirmed, epoch, seen)"
     " SELECT $1::bytea, $2::bytea, $3::bigint, $4::bigint, $5::bigint, " KVEIL_NOW
     " WHERE (SELECT count(*) FROM kveil.agents) < $6::bigint ON CONFLICT (agent) DO UPDATE"
     " SET seen = excluded.seen, confirmed = excluded.confirmed, epoch = excluded.epoch RETURNING seen"},
    {kForgetAgent, "DELETE FROM kveil.agents WHERE agent = $1::bytea"},
    {kReadAgents, "SELECT agent, name, cache_ttl, confirmed, " KVEIL_NOW " - seen, coalesce(epoch, 0) FROM kveil.agents"
                  " WHERE seen >= " KVEIL_NOW " - cache_ttl - $1::bigint ORDER BY name, agent"},
    {kProbe, "UPDATE kveil.format SET probed = $1::bigint"},
    // A row if this process waits for a synchronous standby. Users see that of their own sessions.
    {kIsWaiting,
     "SELECT pid FROM pg_stat_activity WHERE pid = $1::bigint AND wait_event = 'SyncRep'"
     " AND usename = current_user"},
}};

#undef KVEIL_AGENTS
#undef KVEIL_DURABLE
#undef KVEIL_TURNS
#undef KVEIL_KEK_KEYS
#undef KVEIL_KEK_KEY
#undef KVEIL_NEWEST
#undef KVEIL_EPOCH_IN_USE
#undef KVEIL_USERS
#undef KVEIL_READMISSIONS
#undef KVEIL_SOURCES
#undef KVEIL_ASKED_FACTS
#undef KVEIL_WRITTEN_FACTS
#undef KVEIL_NEXT_NUMBER
#undef KVEIL_NOW
#undef KVEIL_LOCK
#undef KVEIL_ROW

}  // namespace kveil::keys::postgres
