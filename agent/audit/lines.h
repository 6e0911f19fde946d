// The lines of a trail, as JSON objects (docs/audit.md has their members).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "audit/trail_head.h"
#include "audit/use.h"

namespace kveil::audit {

struct TimeSpan {
  absl::Time from, to;
};

// What was counted of one use, without its users.
std::string LineOfUse(const TimeSpan& span, const Use& use, const Counted& counted);
// Records per user, by pseudonym of the registry: in several lines if they are many.
inline constexpr size_t kMostUsersOfALine = 256;
std::vector<std::string> LinesOfUsers(const TimeSpan& span, const Use& use, const Counted& counted,
                                      const std::vector<std::pair<std::string, uint64_t>>& users,
                                      const std::string& registry);

// An agent has started, and begun to write at `opened`: before that another one may have held the folder, or it could
// not be written. `unknownSince`: the one before it ended without a word, and what it had counted since then is lost.
struct Started {
  absl::Time time, opened;
  std::optional<absl::Time> unknownSince;
};
std::string LineOfStart(const Started& started, const std::string& agent, const std::string& version);
// It has ended, and nothing is missing.
std::string LineOfEnd(absl::Time time);
inline constexpr std::string_view kKindOfEnd = "stopped";

// The clock was set.
std::string LineOfClock(absl::Time before, absl::Time after);

// What was counted and could not be kept, as the trail could not be written for too long.
struct Lost {
  absl::Time from, to;
  uint64_t lines = 0;
  uint64_t records = 0;
};
std::string LineOfLost(const Lost& lost);

// Where a line is in the chain: its number, and the hash of the line before.
struct ChainPlace {
  uint64_t seq = 0;
  std::string previous;
};
// nullopt: it is no line.
std::optional<ChainPlace> ChainPlaceOf(const std::string& line);

// The `kind` of a line; empty if it is no line.
std::string KindOf(const std::string& line);

}  // namespace kveil::audit
