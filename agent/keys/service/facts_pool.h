// What is known of users, once for all users of whom the same is known, and decoded once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "users/user_facts.h"

namespace kveil::keys {

// Not thread-safe; what it gives out may be dropped by any thread.
class FactsPool {
 public:
  // Facts beyond these are given out as well, but not shared.
  static constexpr size_t kMostShared = 1 << 16;

  using ClockOf = absl::FunctionRef<std::shared_ptr<const users::SourceClock>(const std::string& keyspace)>;

  static std::shared_ptr<const users::SourceClock> NoClock(const std::string&) { return nullptr; }

  // The facts that are stored as `text`, with the clock of their source; null when it is empty. kDataLoss: they are
  // damaged, and nothing is known.
  absl::StatusOr<users::SharedFacts> Get(std::string_view text, ClockOf clockOf = NoClock) {
    if (text.empty()) return nullptr;
    if (const auto found = facts_.find(ToAbsl(text)); found != facts_.end()) {
      if (users::SharedFacts known = found->second.lock()) return known;
    }
    ASSIGN_OR_RETURN(users::UserFacts decoded, users::Decode(text));
    if (decoded.source.has_value()) decoded.clock = clockOf(decoded.source->keyspace);
    auto facts = std::make_shared<const users::UserFacts>(std::move(decoded));
    if (++missed_ >= sweepAfter_) Sweep();
    if (facts_.size() < kMostShared) facts_.insert_or_assign(std::string(text), facts);
    return facts;
  }

  size_t size() const { return facts_.size(); }  // those that nobody holds any more included

 private:
  static constexpr size_t kLeastToSweep = 1024;

  // Costs a constant time for each that was missed: as many are missed before the next sweep as have stayed. Also when
  // there is no room for more, so that there is again when they are dropped.
  void Sweep() {
    absl::erase_if(facts_, [](const auto& entry) { return entry.second.expired(); });
    missed_ = 0;
    sweepAfter_ = std::max(kLeastToSweep, facts_.size());
  }

  absl::flat_hash_map<std::string, std::weak_ptr<const users::UserFacts>> facts_;
  size_t missed_ = 0;  // facts that had to be decoded, since the last sweep
  size_t sweepAfter_ = kLeastToSweep;
};

}  // namespace kveil::keys
