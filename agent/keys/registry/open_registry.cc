// The two implementations.
#include "keys/registry/open_registry.h"

#include "keys/registry/postgres_registry.h"
#include "keys/registry/sqlite_registry.h"

namespace kveil::keys {

absl::StatusOr<std::unique_ptr<Registry>> OpenRegistry(const RegistryOptions& options, bool mustExist,
                                                       std::chrono::steady_clock::time_point deadline) {
  if (options.open) return options.open(mustExist, deadline);
  const int64_t mostKeyless = options.mostKeylessErasures.value_or(Registry::kMostKeylessErasures);
  if (options.postgres.has_value()) {
    return PostgresRegistry::Open(*options.postgres, mostKeyless, mustExist, deadline);
  }
  return SqliteRegistry::Open({options.sqlite, options.freeBytes, options.mayWait, mostKeyless}, mustExist, deadline);
}

}  // namespace kveil::keys
