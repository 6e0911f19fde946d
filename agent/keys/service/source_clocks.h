// Until when the consents of each topic count, by what the registry says.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
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
    if (found != clocks_.end()) return found->second.clock;
    isDue_ = true;
    return clocks_.size() < kMostClocks ? clocks_[keyspace].clock : nullptr;
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

  // What the registry says has changed.
  void SetDue() { isDue_ = true; }
  // Whether the registry is to be read, as a topic has come up that was not known.
  bool isDue() const { return isDue_; }
  bool empty() const { return clocks_.empty(); }

 private:
  static constexpr size_t kMostClocks = 2 * Registry::kMostSources;

  struct Clock {
    std::shared_ptr<users::SourceClock> clock = std::make_shared<users::SourceClock>();
    int64_t generation = 0;
    SteadyTime until;
  };
  absl::flat_hash_map<std::string, Clock> clocks_;
  bool isDue_ = true;
};

}  // namespace kveil::keys
