// The tables of a registry in an SQLite file.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "keys/registry/sqlite.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

inline constexpr int64_t kSqliteFormat = 7;
inline constexpr int64_t kSqliteApplication = 0x6b76656c;  // "kvel", in the file's header

// Makes the tables that an empty file or one of an earlier format lacks, and brings rows to this format. Inside of a
// transaction that writes; what it drops is overwritten.
absl::Status MakeTables(Database& database);

// As scopeKeys has them; the view keyRows gives them back.
int64_t StoredScope(Scope scope, int64_t window);
int64_t StoredEpoch(int64_t epoch, bool isErased);
int64_t StoredMinute(absl::Time time);
// What is in the place of an erased key.
std::string StoredErasure(absl::Time time);

}  // namespace kveil::keys
