// What PostgresRegistry does for topics that consents come from.
#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/postgres_registry.h"
#include "keys/registry/postgres_schema.h"

namespace kveil::keys {

namespace {

// From `column` on: term, generation, state, follower, age, staleAfter.
Registry::Source SourceOf(const PostgresResult& rows, size_t row, int column) {
  Registry::Source source;
  source.term = rows.IntegerAt(row, column);
  source.generation = rows.IntegerAt(row, column + 1);
  source.state = rows.TextAt(row, column + 2);
  source.follower = rows.TextAt(row, column + 3);
  if (!rows.IsNull(row, column + 4)) {
    source.age = Registry::SourceAge(std::chrono::milliseconds(rows.IntegerAt(row, column + 4)));
  }
  source.staleAfter = std::chrono::milliseconds(rows.IntegerAt(row, column + 5));
  return source;
}

}  // namespace

absl::StatusOr<std::vector<Registry::Source>> PostgresRegistry::ReadSources(bool withStates) {
  PostgresParameters asked;
  asked.Add(static_cast<int64_t>(kMostSources)).Add(static_cast<int64_t>(withStates));
  ASSIGN_OR_RETURN(const Results results, Read(postgres::kReadSources, asked));
  const PostgresResult& rows = results.at(0);
  std::vector<Source> sources;
  for (size_t i = 0; i < rows.size(); ++i) {
    sources.push_back(SourceOf(rows, i, 1));
    sources.back().keyspace = rows.TextAt(i, 0);
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
  if (led->at(0).size() > 0) {
    Source source = SourceOf(led->at(0), 0, 0);
    source.keyspace = keyspace;
    return source;
  }
  ASSIGN_OR_RETURN(const std::vector<Source> sources, ReadSources(/*withStates=*/false));
  const bool isKnown =
      std::any_of(sources.begin(), sources.end(), [&](const Source& source) { return source.keyspace == keyspace; });
  if (isKnown) return std::nullopt;
  return absl::UnavailableError(
      StrCat(this->name(), " has ", kMostSources, " consent topics, which is the most there may be"));
}

absl::Status PostgresRegistry::ReleaseSource(std::string_view keyspace, int64_t term, const AgentId& self) {
  PostgresParameters asked;
  asked.Add(AsBytes(keyspace)).Add(term).Add(self);
  const absl::StatusOr<Results> released = Write(PostgresStatement::Execute(postgres::kReleaseSource, asked));
  return released.ok() ? absl::OkStatus() : Fail(released.status());
}

absl::StatusOr<Registry::Moved> PostgresRegistry::MoveSource(const SourceMove& move, absl::Span<const NewFacts> facts,
                                                             absl::Time now) {
  PostgresParameters parameters = FactsParameters(facts, now);
  parameters.Add(AsBytes(move.keyspace)).Add(move.term).Add(move.generation).Add(AsBytes(move.state));
  parameters.Add(move.age.has_value() ? static_cast<int64_t>(move.age->count()) : int64_t{-1});
  parameters.Add(static_cast<int64_t>(move.staleAfter.count()));
  parameters.Add(AsBytes(move.before)).Add(move.agent);
  // Without facts it concerns nobody else, and waits for no erasure.
  absl::StatusOr<Results> results = facts.empty() ? Write(PostgresStatement::Execute(postgres::kMoveSource, parameters))
                                                  : WriteFactsBy(postgres::kMoveSource, facts, parameters);
  if (!results.ok()) return facts.empty() ? Fail(results.status()) : results.status();
  const PostgresResult& written = results->at(facts.empty() ? 0 : 1);
  if (written.size() == 0) return Moved();
  ASSIGN_OR_RETURN(std::vector<int64_t> numbers, TakeNumbers(written, facts));
  return Moved{true, std::move(numbers)};
}

}  // namespace kveil::keys
