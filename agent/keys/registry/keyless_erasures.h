// How many erasures of users without a key a registry remembers.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "keys/registry/registry.h"

namespace kveil::keys {

// Whoever may erase could otherwise make the registry longer without end, by subjects that are nobody's. They are
// counted once for each connection, and then only when there are too many: so agents that share a registry may go
// beyond the limit together.
class KeylessErasures {
 public:
  explicit KeylessErasures(int64_t most) : most_(most) {}

  // Whether the registry may remember more of them. `count` looks how many there are, but no further than to `most`.
  absl::StatusOr<bool> MayAdd(uint64_t opening, absl::FunctionRef<absl::StatusOr<int64_t>(int64_t most)> count) {
    if (opening_ != opening || count_ >= most_) {
      ASSIGN_OR_RETURN(count_, count(most_));
      opening_ = opening;
    }
    return count_ < most_;
  }
  void Note(const std::vector<Registry::Erased>& erased) {
    for (const Registry::Erased& one : erased) count_ += one.keyCount == 0 && !one.keyspaces.empty() ? 1 : 0;
  }

 private:
  const int64_t most_;
  uint64_t opening_ = 0;  // of the registry, that was counted
  int64_t count_ = 0;
};

}  // namespace kveil::keys
