// Opens the registry that the configuration names. A new implementation gets its member and its branch here.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "keys/registry/postgres_connector.h"

namespace kveil::keys {

class Registry;

// Exactly one implementation is named, as in agent.json's `keys.registry`.
struct RegistryOptions {
  std::string sqlite;                       // path of the file
  std::optional<PostgresOptions> postgres;  // the database
  // For tests: opens one that is none of the above.
  std::function<absl::StatusOr<std::unique_ptr<Registry>>(bool mustExist,
                                                          std::chrono::steady_clock::time_point deadline)>
      open;
  // The bytes by which the SQLite file may still grow, for tests. Empty: ask the file system.
  std::function<uint64_t()> freeBytes;
  // For tests, in place of Registry::kMostKeylessErasures.
  std::optional<int64_t> mostKeylessErasures;
  // Asked again and again while OpenRegistry brings an SQLite file of an earlier format to this one, which takes
  // minutes with many users: whether it should go on. If not, it returns kCancelled, and the file is as it was. Empty:
  // it does.
  std::function<bool(const absl::Status& reason)> mayWait;
};

// Opens the registry, ready for use. If there is none, makes an empty one, or returns kNotFound when it `mustExist`.
// Other errors as in Registry.
absl::StatusOr<std::unique_ptr<Registry>> OpenRegistry(const RegistryOptions& options, bool mustExist,
                                                       std::chrono::steady_clock::time_point deadline);

}  // namespace kveil::keys
