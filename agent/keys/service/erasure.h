// What an erasure reports.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace kveil::keys {

struct EraseResult {
  absl::Time erasedAt;
  size_t keyCount = 0;                 // keys destroyed by this call
  std::vector<std::string> keyspaces;  // where they were
  // No copy of the wrapped keys is left in the registry's own files. False when another process stood in the way: the
  // service goes on trying, and health() says so until it is done.
  bool filesClean = false;
};

// kAlreadyExists, and says when.
absl::Status ErasedBeforeError(absl::Time time);
// When the user was erased, out of the kAlreadyExists status of an erasure.
std::optional<absl::Time> ErasedBefore(const absl::Status& status);

}  // namespace kveil::keys
