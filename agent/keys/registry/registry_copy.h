// Moves a registry from an SQLite file to PostgreSQL.
//
// What was erased stays erased, because at no moment can the two be used both:
//
//   1. the file is locked for its whole length and marked: no agent of any version opens it any more
//   2. the target is claimed: it is of a format that no agent opens
//   3. rows are copied, in the order of their keys
//   4. the file says that the target may be in use, and so does a note beside it (moved_note.h); from now on
//      this cannot be given up
//   5. the target gets the registry's identity and its format, in one transaction: agents may use it
//   6. the file says that it was moved
//
// A copy that is ended at any moment is gone on with by the next call, also where the target has lost its last
// transactions, as a server whose standby has taken over. Nothing is unwrapped: the root key stays the
// registry's, and is not needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "keys/registry/postgres_connector.h"

namespace kveil::keys {

struct RegistryCopyOptions {
  std::string from;  // path of the SQLite file
  // Only goes on with a copy that was begun: the file may be one of several that hold the registry.
  bool mustBeBegun = false;
  PostgresOptions to;
  // Of the rows of all tables, how many are copied. Never less than before.
  std::function<void(uint64_t done, uint64_t all)> progress = [](uint64_t, uint64_t) {};
  size_t mostRows = 2000;  // of a transaction
  // Whether to end now: for tests.
  std::function<bool()> mustEnd = [] { return false; };
};
struct RegistryCopied {
  std::string to;         // its name, for people
  uint64_t rows = 0;      // in all tables
  bool wasMoved = false;  // by an earlier call, and the target holds it: this one has done nothing
};
// kFailedPrecondition: the file is in use or empty, is being moved elsewhere or by another version, or the target holds
// something else.
// kUnavailable: the file or the server cannot be used now; kDataLoss: one of them is corrupt. Call it again later.
absl::StatusOr<RegistryCopied> CopyRegistry(const RegistryCopyOptions& options);

// Lets agents use a file again whose move was begun, and not completed. What was copied is of no use any more.
// kFailedPrecondition: it is not being moved, or the target may be in use already.
absl::Status GiveUpCopy(const std::string& from);

}  // namespace kveil::keys
