// The lock of a folder of evidence: one writer at a time, of this process or another.
#pragma once

#include <chrono>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::evidence {

// Held until it is closed. kUnavailable: another holds it for longer than `patience`, and which process that is; or the
// file cannot be opened.
absl::StatusOr<UniqueFd> LockFolder(const std::string& folder, std::chrono::milliseconds patience);

}  // namespace kveil::evidence
