// Reads a trail from its first line to its last, and tells whether it is as it was written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "audit/trail_head.h"
#include "evidence/signing_key.h"

namespace kveil::audit {

struct Verification {
  uint64_t first = 1;               // the number of the first line that is kept
  uint64_t last = 0;                // of the last line that is in order
  std::string hash;                 // of that line
  std::string time;                 // until when the head says that all is there
  std::vector<std::string> faults;  // the first kMostFaults
  std::vector<std::string> notes;   // what the trail itself says of: lines that were never signed
  static constexpr size_t kMostFaults = 20;
};

// Gives `onLine` each line, in order, without its line break: also those that are not as they were written. While the
// agent goes on writing, it reads up to a line that was signed meanwhile. kNotFound: there is no trail. Any process
// that may read the folder; takes no lock.
absl::StatusOr<Verification> ReadTrail(const std::string& folder, const evidence::SigningKey& key,
                                       absl::FunctionRef<void(const std::string& line)> onLine);

// The key that verifies the folder's lines: of `path`, a PEM file, or the folder's own.
absl::StatusOr<evidence::SigningKey> ReadPublicKey(const std::string& folder, const std::string& path);

}  // namespace kveil::audit
