// What PostgresRegistry does for topics that consents come from.
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"

namespace kveil::keys {

absl::StatusOr<std::vector<Registry::Source>> PostgresRegistry::ReadSources() {
  PostgresParameters most;
  most.Add(static_cast<int64_t>(kMostSources));
  const PostgresStatement read[] = {PostgresStatement::Execute(postgres::kReadSources, most)};
  absl::StatusOr<Results> results = Call(read);
  if (!results.ok()) return Fail(results.status());
  const PostgresResult& rows = results->at(0);
  std::vector<Source> sources;
  for (size_t i = 0; i < rows.size(); ++i) {
    Source& source = sources.emplace_back();
    source.keyspace = rows.TextAt(i, 0);
    source.term = rows.IntegerAt(i, 1);
    source.generation = rows.IntegerAt(i, 2);
    source.state = rows.TextAt(i, 3);
    source.follower = rows.TextAt(i, 4);
    if (!rows.IsNull(i, 5)) source.age = std::chrono::milliseconds(rows.IntegerAt(i, 5));
    source.staleAfter = std::chrono::milliseconds(rows.IntegerAt(i, 6));
  }
  return sources;
}

absl::StatusOr<std::optional<Registry::Source>> PostgresRegistry::LeadSource(std::string_view keyspace,
                                                                             const AgentId& self, std::string_view name,
                                                                             std::chrono::milliseconds lease) {
  PostgresParameters asked;
  asked.Add(AsBytes(keyspace)).Add(self).Add(AsBytes(name)).Add(static_cast<int64_t>(lease.count()));
  asked.Add(static_cast<int64_t>(kMostSources));
  const absl::StatusOr<Results> led = Write(PostgresStatement::Execute(postgres::kLeadSource, asked));
  if (!led.ok()) return Fail(led.status());
  ASSIGN_OR_RETURN(std::vector<Source> sources, ReadSources());
  for (Source& source : sources) {
    if (source.keyspace != keyspace) continue;
    if (led->at(0).size() == 0) return std::nullopt;
    return std::move(source);
  }
  return absl::UnavailableError(
      StrCat(this->name(), " has ", kMostSources, " consent topics, which is the most there may be"));
}

absl::StatusOr<Registry::Moved> PostgresRegistry::MoveSource(const SourceMove& move, absl::Span<const NewFacts> facts,
                                                             absl::Time now) {
  PostgresParameters parameters = FactsParameters(facts, now);
  parameters.Add(AsBytes(move.keyspace)).Add(move.term).Add(move.generation).Add(AsBytes(move.state));
  parameters.Add(move.age.has_value() ? static_cast<int64_t>(move.age->count()) : int64_t{-1});
  parameters.Add(static_cast<int64_t>(move.staleAfter.count()));
  ASSIGN_OR_RETURN(const Results results, WriteFactsBy(postgres::kMoveSource, facts, parameters));
  const PostgresResult& written = results.at(1);
  if (written.size() == 0) return Moved();
  ASSIGN_OR_RETURN(std::vector<int64_t> numbers, TakeNumbers(written, facts));
  return Moved{true, std::move(numbers)};
}

}  // namespace kveil::keys
