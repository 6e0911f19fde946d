// How many erasures of users without a key a registry remembers.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "keys/registry/registry.h"

namespace kveil::keys {

// Whoever may erase could otherwise make the registry longer without end, by subjects that are nobody's. They are
// counted once for each connection, and then only when there are too many, once a minute: so agents that share a
// registry may go beyond the limit together, and room that a readmission makes is seen a minute later. To count reads
// all erasures, and whoever needs a key waits for it.
class KeylessErasures {
 public:
  explicit KeylessErasures(int64_t most) : most_(most) {}

  // Whether the registry may remember more of them. `count` looks how many there are, but no further than to `most`.
  absl::StatusOr<bool> MayAdd(uint64_t opening, absl::Time now,
                              absl::FunctionRef<absl::StatusOr<int64_t>(int64_t most)> count) {
    if (opening_ != opening || (count_ >= most_ && absl::AbsDuration(now - counted_) >= kCountAgain)) {
      ASSIGN_OR_RETURN(count_, count(most_));
      opening_ = opening;
      counted_ = now;
    }
    return count_ < most_;
  }
  void Note(const std::vector<Registry::Erased>& erased) {
    for (const Registry::Erased& one : erased) count_ += one.keyCount == 0 && !one.keyspaces.empty() ? 1 : 0;
  }

 private:
  static constexpr absl::Duration kCountAgain = absl::Minutes(1);

  const int64_t most_;
  uint64_t opening_ = 0;  // of the registry, that was counted
  absl::Time counted_;    // when
  int64_t count_ = 0;
};

}  // namespace kveil::keys
