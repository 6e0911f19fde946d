// Asks the registry again and again: seldom enough that a thousand agents that erase at once do not burden it.
#include "keys/service/erasure_spread.h"

#include <algorithm>
#include <thread>
#include <utility>

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;

// Clocks of the registry and the agents run at slightly different speeds, and a batch that was begun takes a moment.
constexpr milliseconds kMargin{1000};
constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLongestPause{500};
constexpr std::chrono::seconds kLongestSilence{10};  // of the registry, when nothing else is waited for

}  // namespace

void ErasureWatch::Take(const std::vector<Registry::Agent>& agents, absl::Time wallNow) {
  if (!std::exchange(hasAgents_, true)) {
    for (const Registry::Agent& agent : agents) agents_.push_back({agent, std::nullopt, {}});
  }
  for (Followed& followed : agents_) {
    if (followed.confirmed.has_value()) continue;
    const auto found = std::find_if(agents.begin(), agents.end(),
                                    [&](const Registry::Agent& agent) { return agent.id == followed.agent.id; });
    // One that has ended in order has forgotten all keys before.
    if (found == agents.end() || found->confirmed >= number_) {
      followed.confirmed = wallNow;
      continue;
    }
    followed.refusesFrom = begin_ + found->cacheTtl + kMargin;
  }
}

ErasureSpread ErasureWatch::Spread(SteadyTime now, absl::Time wallNow) const {
  ErasureSpread spread;
  spread.isComplete = hasAgents_;
  for (const Followed& followed : agents_) {
    const auto left = std::chrono::duration_cast<milliseconds>(followed.refusesFrom - now);
    spread.agents.push_back({followed.agent.name, followed.confirmed, wallNow + absl::Milliseconds(left.count())});
    if (!followed.confirmed.has_value() && followed.refusesFrom > now) spread.isComplete = false;
  }
  return spread;
}

ErasureSpread AwaitAgents(KeyService& keys, int64_t number, std::optional<milliseconds> patience,
                          absl::FunctionRef<bool()> mayWait) {
  using Clock = std::chrono::steady_clock;
  const KeyServiceOptions& options = keys.options();
  const Clock::time_point begin = Clock::now();
  ErasureWatch watch(number, options.steadyNow());
  std::optional<uint64_t> opening;
  Clock::time_point missedSince = begin;  // when the registry's answer became all that is missing
  for (milliseconds pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    const absl::StatusOr<KeyService::AgentsRead> read = keys.ReadAgents();
    if (read.ok()) {
      watch.Take(read->agents, options.wallNow());
      opening = read->opening;
    }
    ErasureSpread spread = watch.Spread(options.steadyNow(), options.wallNow());
    if (read.ok() || (opening.has_value() && !spread.isComplete)) missedSince = Clock::now();
    // A registry that is gone may come back on a standby that has lost the erasure, so the last word has to be its own.
    spread.isComplete = spread.isComplete && read.ok();
    spread.status = read.status();
    spread.opening = opening;
    const Clock::time_point next = Clock::now() + pause;
    const bool isLate = (patience.has_value() && next - begin > *patience) || next - missedSince > kLongestSilence;
    if (spread.isComplete || isLate || !mayWait()) return spread;
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace kveil::keys
