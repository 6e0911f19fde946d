// Until when the consents of each topic count, by what the registry says.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/text.h"
#include "keys/registry/registry.h"
#include "keys/service/user_changes.h"
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
    return clocks_[keyspace].clock;
  }
  // Notes that somebody wants to read by consents of the topic that feeds the keyspace.
  void NoteWanted(const std::string& keyspace, SteadyTime now) {
    if (const auto found = clocks_.find(keyspace); found != clocks_.end()) found->second.wanted = now;
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

  // By keyspace.
  std::vector<SourceState> States(SteadyTime now) const {
    std::vector<SourceState> states;
    for (const auto& [keyspace, clock] : clocks_) {
      const bool isWanted = clock.wanted.has_value() && now - *clock.wanted < kWanted;
      states.push_back({keyspace, isWanted, now >= clock.until});
    }
    std::sort(states.begin(), states.end(), [](const auto& a, const auto& b) { return a.keyspace < b.keyspace; });
    return states;
  }

  // Of topics whose consents were wanted here a moment ago: those of one that is retired must not be a problem for
  // ever. kUnavailable: those of one do not count now.
  absl::Status Problem(SteadyTime now) const {
    std::vector<std::string> stale;
    for (SourceState& state : States(now)) {
      if (state.isWanted && state.isStale) stale.push_back(std::move(state.keyspace));
    }
    if (stale.empty()) return absl::OkStatus();
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
  // Longer than keys.cacheTtl can be: what is cached is asked for again after that.
  static constexpr std::chrono::minutes kWanted{65};

  struct Clock {
    std::shared_ptr<users::SourceClock> clock = std::make_shared<users::SourceClock>();
    int64_t generation = 0;
    SteadyTime until;
    std::optional<SteadyTime> wanted;  // last
  };
  absl::flat_hash_map<std::string, Clock> clocks_;
  bool isDue_ = true;
};

}  // namespace kveil::keys
