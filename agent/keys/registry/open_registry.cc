// One implementation so far.
#include "keys/registry/open_registry.h"

#include "keys/registry/sqlite_registry.h"

namespace kveil::keys {

absl::StatusOr<std::unique_ptr<Registry>> OpenRegistry(const RegistryOptions& options, bool mustExist,
                                                       std::chrono::steady_clock::time_point deadline) {
  return SqliteRegistry::Open({options.sqlite, options.freeBytes}, mustExist, deadline);
}

}  // namespace kveil::keys
