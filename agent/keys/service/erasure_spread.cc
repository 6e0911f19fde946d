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

ErasureWait::ErasureWait(int64_t number, const KeyServiceOptions& options, std::optional<milliseconds> patience)
    : options_(options),
      patience_(patience),
      begin_(options.timerNow()),
      missedSince_(begin_),
      watch_(number, options.steadyNow()) {}

std::optional<ErasureSpread> ErasureWait::Take(const absl::StatusOr<KeyService::AgentsRead>& read, bool mayWait) {
  pause_ = pause_ == milliseconds(0) ? kFirstPause : std::min(2 * pause_, kLongestPause);
  if (read.ok()) {
    watch_.Take(read->agents, options_.wallNow());
    opening_ = read->opening;
  }
  ErasureSpread spread = watch_.Spread(options_.steadyNow(), options_.wallNow());
  const SteadyTime now = options_.timerNow();
  if (read.ok() || (opening_.has_value() && !spread.isComplete)) missedSince_ = now;
  // A registry that is gone may come back on a standby that has lost the erasure, so the last word has to be its own.
  spread.isComplete = spread.isComplete && read.ok();
  spread.status = read.status();
  spread.opening = opening_;
  const SteadyTime next = now + pause_;
  const bool isLate = (patience_.has_value() && next - begin_ > *patience_) || next - missedSince_ > kLongestSilence;
  if (!spread.isComplete && !isLate && mayWait) return std::nullopt;
  return spread;
}

ErasureSpread AwaitAgents(KeyService& keys, int64_t number, std::optional<milliseconds> patience,
                          absl::FunctionRef<bool()> mayWait) {
  ErasureWait wait(number, keys.options(), patience);
  for (;;) {
    const absl::StatusOr<KeyService::AgentsRead> read = keys.ReadAgents();
    std::optional<ErasureSpread> spread = wait.Take(read, mayWait());
    if (spread.has_value()) return *std::move(spread);
    std::this_thread::sleep_for(wait.pause());
  }
}

}  // namespace kveil::keys
