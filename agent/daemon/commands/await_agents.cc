#include "daemon/commands/await_agents.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "keys/service/erasure_spread.h"

namespace kveil::daemon {
namespace {

// Longer than any cacheTtl.
constexpr std::chrono::hours kLongestWait{2};

}  // namespace

std::string TextOf(absl::Time time) { return absl::FormatTime(absl::RFC3339_sec, time, absl::UTCTimeZone()); }

std::optional<std::chrono::milliseconds> PatienceOf(std::optional<uint64_t> waitSeconds) {
  if (!waitSeconds.has_value()) return std::nullopt;
  return std::chrono::seconds(std::min<uint64_t>(*waitSeconds, std::chrono::seconds(kLongestWait).count()));
}

Heard AwaitAgents(keys::KeyService& keys, int64_t number, std::optional<std::chrono::milliseconds> patience,
                  const admin::Caller& caller) {
  const keys::ErasureSpread spread = keys::AwaitAgents(keys, number, patience, [&] { return !caller.isEnding(); });
  admin::Spread told;
  told.complete = spread.isComplete;
  for (const keys::ErasureSpread::Agent& agent : spread.agents) {
    admin::Spread::Agent& one = told.agents.emplace_back();
    one.name = agent.name;
    if (agent.confirmed.has_value()) {
      one.confirmed = TextOf(*agent.confirmed);
    } else {
      one.refusesFrom = TextOf(agent.refusesFrom);
    }
  }
  if (!spread.status.ok()) told.error = ToStd(spread.status.message());
  return {std::move(told), spread.opening};
}

std::string OpeningOf(const keys::KeyService& keys, uint64_t opening) { return StrCat(keys.agentName(), "/", opening); }

}  // namespace kveil::daemon
