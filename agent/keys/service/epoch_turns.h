// Turning epochs: a new epoch key takes the place of the one in use, so that old copies of the registry open nothing.
//
// A turn is a chain of steps. Each is one transaction of the registry, which then says what the next step is, to any
// agent:
//
//   1. the next epoch's key is made and added, and not used yet (Registry::AddEpoch)
//   2. when all agents have its key, new rows are of it, and of no other from then on (UseEpoch)
//   3. one agent at a time rewraps the rows that there are, in the order of their ids (LeadTurn, MoveTurn)
//   4. when there are no rows of the epochs before, which the registry looks at, their keys are destroyed (EndTurn)
//   5. each agent has its root key forget what opened them (RootKey::ForgetOlder)
//
// So an agent that ends between two steps leaves nothing to be repaired, and no row is ever of an epoch whose key is
// gone: nothing makes such rows after step 2, step 3 leaves none behind, and as long as there is a row that cannot be
// rewrapped, step 4 does not come: all others are rewrapped, and the row is named, until it is restored or given up.
// What somebody puts behind the place, by restoring rows, step 4 finds, and step 3 begins again.
// An erasure is never undone: step 3 changes rows only while they are active, under a lock that erasures wait for.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "keys/registry/registry.h"
#include "keys/root/root_key.h"
#include "keys/service/registry_keys.h"
#include "keys/service/unreadable_keys.h"

namespace kveil::keys {

// Used by one thread. What it is given outlives it.
class EpochTurns {
 public:
  using SteadyTime = std::chrono::steady_clock::time_point;
  struct Options {
    std::chrono::milliseconds turnEvery{0};  // 0: only when asked
    std::function<SteadyTime()> steadyNow;
    std::function<absl::Time()> wallNow;
    std::function<SteadyTime()> timerNow = [] { return std::chrono::steady_clock::now(); };  // see KeyServiceOptions
  };
  EpochTurns(Options options, Registry& registry, RootKey& root, RegistryKeys& keys)
      : options_(std::move(options)), registry_(registry), root_(root), keys_(keys) {}

  // Has a turn begin with the next step, unless one is under way then.
  void Ask() { isAsked_ = true; }

  struct Result {
    bool hasMore = false;       // of this turn, for this agent, soon
    bool hasDestroyed = false;  // an epoch's key, which old pages of the registry may still hold
  };
  // One step. `rows` was read a moment ago, all of its keys are known. `mayBegin`: the root key is well. Errors are the
  // registry's or the root key's, and are for the operator: the next step tries again.
  absl::StatusOr<Result> Step(const std::vector<Registry::Epoch>& rows, const Registry::AgentId& self, bool mayBegin);

  // What is wrong, in words for the operator: a turn that is stuck, or is overdue.
  const absl::Status& problem() const { return problem_; }
  // The epochs could not be looked at, and why.
  void Stop(absl::Status why) { problem_ = std::move(why); }
  // What the operator should know: why a turn does not begin, or the root key cannot forget.
  const absl::Status& note() const { return waits_.ok() ? note_ : waits_; }
  // Why copies of the registry from before the last turn can still be opened, after "old copies ". Empty: they cannot,
  // or a turn is under way, or there was none.
  const std::string& oldCopies() const { return oldCopies_; }
  // Why a turn that was asked for has not begun. OK: there is no reason.
  const absl::Status& waits() const { return waits_; }
  // What is irrecoverable since the root key has forgotten what opens copies from before the epoch, on this node.
  struct Forgotten {
    int64_t epoch = 0;     // all before it are destroyed
    int64_t erasures = 0;  // up to this number
    absl::Time destroyed;
  };
  const std::optional<Forgotten>& forgotten() const { return forgotten_; }
  // While this agent leads a turn.
  const UnreadableKeys& unreadable() const { return unreadable_; }

  // How long a turn may take until that is a problem.
  static constexpr std::chrono::hours kPatience{24};
  // A turn by time comes only when this agent has known the epoch in use for so long: a clock that jumps there and back
  // turns nothing twice.
  static constexpr std::chrono::minutes kKnownFor{10};
  static constexpr size_t kRowsOfAStep = 256;

 private:
  absl::StatusOr<Result> MayBegin(const Registry::Epoch& newest, bool mayBegin);
  absl::StatusOr<Result> Begin(const Registry::Epoch& newest);
  absl::StatusOr<Result> Introduce(const Registry::Epoch& newest);
  absl::StatusOr<Result> Rewrap(const Registry::Epoch& newest, const Registry::AgentId& self);
  absl::StatusOr<Result> End(const Registry::Epoch& newest, const Registry::AgentId& self);
  absl::Status Lead(int64_t epoch, const Registry::AgentId& self);
  absl::Status RewrapEach(absl::Span<const Registry::Found> found, int64_t epoch, std::vector<Registry::Row>& rewrapped,
                          Registry::TurnPlace& after);
  void Forget(const Registry::Epoch& only);
  absl::StatusOr<bool> ForgetNow(const Registry::Epoch& only);
  bool IsDue(const Registry::Epoch& newest) const;

  const Options options_;
  Registry& registry_;
  RootKey& root_;
  RegistryKeys& keys_;

  bool isAsked_ = false;
  int64_t seenNumber_ = 0;  // of the newest epoch
  bool seenUsed_ = false;
  SteadyTime seenSince_;  // that it is as it is
  SteadyTime turningSince_;
  SteadyTime settledSince_;  // that no turn is under way
  bool isTurning_ = false;
  absl::Status problem_;

  struct Making {
    ByteBuffer secretBefore;
    int64_t number = 0;
    std::future<absl::StatusOr<RootKey::Turned>> turned;
  };
  std::optional<Making> making_;
  // The place, while this agent leads the turn to `leads_`.
  int64_t leads_ = 0;
  Registry::TurnPlace place_;
  SteadyTime leadAgain_;  // not before that
  UnreadableKeys unreadable_;
  SteadyTime passBegan_, passNotBefore_;
  SteadyTime::duration passTook_{0};
  bool hasRewrapped_ = false;  // in this pass, or nobody knows
  bool isCircling_ = false;    // the registry has rows that a pass does not find
  uint64_t openingOfLead_ = 0;
  SteadyTime forgetNotBefore_;
  absl::Status waits_, note_;
  std::string oldCopies_;
  std::optional<Forgotten> forgotten_;
};

}  // namespace kveil::keys
