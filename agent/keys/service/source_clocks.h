// Until when the consents of each topic count, by what the registry says.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/text.h"
#include "keys/registry/registry.h"
#include "users/source_clock.h"

namespace kveil::keys {

// Used by one thread; the clocks that it gives out may be asked by any.
class SourceClocks {
 public:
  using SteadyTime = std::chrono::steady_clock::time_point;

  // The clock of the topic that feeds the keyspace. Until the registry was read again, nothing of one that was not
  // known counts. Null, with which nothing counts, beyond kMostClocks.
  std::shared_ptr<const users::SourceClock> Of(const std::string& keyspace) {
    const auto found = clocks_.find(keyspace);
    if (found == clocks_.end()) isDue_ = true;
    if (found == clocks_.end() && clocks_.size() >= kMostClocks) return nullptr;
    Clock& clock = clocks_[keyspace];
    clock.isAskedFor = true;
    return clock.clock;
  }
  // Whether consents of this generation count at `now`; false of a topic that is not known.
  bool IsCurrent(const std::string& keyspace, int64_t generation, absl::Time now) const {
    const auto found = clocks_.find(keyspace);
    return found != clocks_.end() && found->second.clock->IsCurrent(generation, now);
  }

  // Takes what the registry has said between `asked` and now.
  void Take(absl::Span<const Registry::Source> sources, SteadyTime asked) {
    for (auto& [keyspace, clock] : clocks_) clock.until = SteadyTime();
    for (const Registry::Source& source : sources) {
      if (!clocks_.contains(source.keyspace) && clocks_.size() >= kMostClocks) continue;
      Clock& clock = clocks_[source.keyspace];
      clock.generation = source.generation;
      if (source.age.has_value()) clock.until = asked + source.staleAfter - *source.age;
    }
    isDue_ = false;
  }

  // Sets the clocks by the time of the day, which may have been changed. What is said of a time that has passed by the
  // steady clock does not count again.
  void Set(SteadyTime now, absl::Time wallNow) {
    for (auto& [keyspace, clock] : clocks_) {
      const bool counts = now < clock.until;
      clock.clock->Set(clock.generation, counts ? wallNow + absl::FromChrono(clock.until - now) : absl::InfinitePast());
    }
  }

  // Of topics whose consents were asked for here. kUnavailable: those of one do not count now.
  absl::Status Problem(SteadyTime now) const {
    std::vector<std::string> stale;
    for (const auto& [keyspace, clock] : clocks_) {
      if (clock.isAskedFor && now >= clock.until) stale.push_back(keyspace);
    }
    if (stale.empty()) return absl::OkStatus();
    std::sort(stale.begin(), stale.end());
    std::string names;
    for (size_t i = 0; i < std::min(stale.size(), kMostTold); ++i) StrAppend(&names, i == 0 ? "" : ", ", stale[i]);
    if (stale.size() > kMostTold) names += ", ...";
    return absl::UnavailableError(StrCat("no consent that comes from a topic counts in keyspace(s) ", names,
                                         ": the topic was not read to its end for too long, or not yet"));
  }

  // What the registry says has changed.
  void SetDue() { isDue_ = true; }
  // Whether the registry is to be read, as a topic has come up that was not known.
  bool isDue() const { return isDue_; }
  bool empty() const { return clocks_.empty(); }

 private:
  static constexpr size_t kMostClocks = 2 * Registry::kMostSources;
  static constexpr size_t kMostTold = 8;

  struct Clock {
    std::shared_ptr<users::SourceClock> clock = std::make_shared<users::SourceClock>();
    int64_t generation = 0;
    SteadyTime until;
    bool isAskedFor = false;
  };
  absl::flat_hash_map<std::string, Clock> clocks_;
  bool isDue_ = true;
};

}  // namespace kveil::keys
