// What an SQLite registry does for topics that consents come from.
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/sqlite_tables.h"

namespace kveil::keys {

absl::StatusOr<std::vector<Registry::Source>> SqliteTables::ReadSources(bool withStates, absl::Time now) {
  ASSIGN_OR_RETURN(
      Statement statement,
      database_->Prepare("SELECT keyspace, term, generation, state, follower, current, staleAfter FROM sources"
                         " ORDER BY keyspace LIMIT ?1"));
  statement.Bind(1, static_cast<int64_t>(Registry::kMostSources));
  std::vector<Registry::Source> sources;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return sources;
    Registry::Source& source = sources.emplace_back();
    source.keyspace = statement.TextAt(0);
    source.term = statement.IntegerAt(1);
    source.generation = statement.IntegerAt(2);
    if (withStates) source.state = AsText(statement.BlobAt(3));
    source.follower = statement.TextAt(4);
    const auto age = std::chrono::milliseconds(absl::ToUnixMillis(now) - statement.IntegerAt(5));
    if (!statement.IsNull(5)) source.age = Registry::SourceAge(age);
    source.staleAfter = std::chrono::milliseconds(statement.IntegerAt(6));
  }
}

absl::StatusOr<std::optional<Registry::Source>> SqliteTables::LeadSource(std::string_view keyspace,
                                                                         const Registry::AgentId& self,
                                                                         std::string_view name,
                                                                         std::chrono::milliseconds lease,
                                                                         absl::Time now) {
  // A time that has yet to come is of a clock that was set back.
  ASSIGN_OR_RETURN(
      Statement lead,
      database_->Prepare("INSERT INTO sources (keyspace, term, agent, follower, seen, generation, state, staleAfter)"
                         " SELECT ?1, 1, ?2, ?3, ?4, 0, x'', 0"
                         " WHERE (SELECT count(*) FROM sources WHERE keyspace <> ?1) < ?6"
                         " ON CONFLICT (keyspace) DO UPDATE SET term = term + 1, agent = ?2, follower = ?3, seen = ?4"
                         " WHERE agent = ?2 OR abs(seen - ?4) >= ?5"));
  lead.Bind(1, keyspace);
  lead.Bind(2, self);
  lead.Bind(3, name);
  lead.Bind(4, absl::ToUnixMillis(now));
  lead.Bind(5, static_cast<int64_t>(lease.count()));
  lead.Bind(6, static_cast<int64_t>(Registry::kMostSources));
  RETURN_IF_ERROR(lead.Run());
  const bool leads = database_->changes() > 0;
  ASSIGN_OR_RETURN(std::vector<Registry::Source> sources, ReadSources(/*withStates=*/true, now));
  for (Registry::Source& source : sources) {
    if (source.keyspace != keyspace) continue;
    if (!leads) return std::nullopt;
    return std::move(source);
  }
  return absl::ResourceExhaustedError(
      StrCat("registry ", path_, " has ", Registry::kMostSources, " consent topics, which is the most there may be"));
}

absl::Status SqliteTables::ReleaseSource(std::string_view keyspace, int64_t term, const Registry::AgentId& self) {
  ASSIGN_OR_RETURN(Statement statement,
                   database_->Prepare("UPDATE sources SET seen = 0 WHERE keyspace = ?1 AND term = ?2 AND agent = ?3"));
  statement.Bind(1, keyspace);
  statement.Bind(2, term);
  statement.Bind(3, self);
  return statement.Run();
}

absl::StatusOr<bool> SqliteTables::MoveSource(const Registry::SourceMove& move, absl::Time now) {
  ASSIGN_OR_RETURN(
      Statement statement,
      database_->Prepare("UPDATE sources SET seen = ?3, state = ?5, staleAfter = ?7, generation = ?4, current ="
                         " CASE WHEN ?6 IS NOT NULL THEN ?3 - ?6 WHEN generation = ?4 THEN current END"
                         " WHERE keyspace = ?1 AND term = ?2 AND state = ?8 AND agent = ?9"));
  statement.Bind(1, move.keyspace);
  statement.Bind(2, move.term);
  statement.Bind(3, absl::ToUnixMillis(now));
  statement.Bind(4, move.generation);
  statement.Bind(5, AsBytes(move.state));
  statement.BindNull(6);
  if (move.age.has_value()) statement.Bind(6, static_cast<int64_t>(move.age->count()));
  statement.Bind(7, static_cast<int64_t>(move.staleAfter.count()));
  statement.Bind(8, AsBytes(move.before));
  statement.Bind(9, move.agent);
  RETURN_IF_ERROR(statement.Run());
  return database_->changes() > 0;
}

}  // namespace kveil::keys
