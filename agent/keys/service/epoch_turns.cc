#include "keys/service/epoch_turns.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// An agent that has not been heard of for so long is not waited for: it has to read the epochs anew when it is back,
// and meets no row of an epoch that it does not know before.
constexpr seconds kAway{10};
// Until one that is here, and lacks the new epoch's key, is a problem.
constexpr std::chrono::minutes kWaitSilently{1};
// Of the agent that rewraps.
constexpr seconds kLease{30};
constexpr seconds kLeadAgain{5};
// After a pass that has found rows that cannot be rewrapped, there is none for so many times the time that it took.
constexpr int kPassShare = 4;
// A registry of many nodes may be taken over by a standby that lacks the last moments, and then still needs what the
// root key is to forget.
constexpr std::chrono::minutes kForgetSharedAfter{10};
constexpr seconds kMaking{10};
// Again and again: somebody may have put an old root key back.
constexpr std::chrono::minutes kForgetAgain{1};
constexpr seconds kForgetAfterFailure{10};

absl::Status OldAgent(const Registry::Agent& agent) {
  return absl::UnavailableError(StrCat("agent ", agent.name,
                                       " is of a version of kveil that does not know of turns; update it, or wait "
                                       "for an hour after it has ended"));
}

}  // namespace

absl::StatusOr<EpochTurns::Result> EpochTurns::Step(const std::vector<Registry::Epoch>& rows,
                                                    const Registry::AgentId& self, bool mayBegin) {
  const Registry::Epoch& newest = rows.back();
  const SteadyTime now = options_.steadyNow();
  if (newest.number != seenNumber_ || newest.isUsed != seenUsed_) {
    if (newest.number != seenNumber_) turningSince_ = now;
    seenNumber_ = newest.number;
    seenUsed_ = newest.isUsed;
    seenSince_ = now;
    settledSince_ = now;
  }
  const bool isTurning = !newest.isUsed || rows.size() > 1;
  waits_ = absl::OkStatus();
  if (isTurning && !isTurning_) root_.SettledFor(0);
  isTurning_ = isTurning;
  if (isTurning) {
    isAsked_ = false;
    settledSince_ = now;
    forgetNotBefore_ = {};
    oldCopies_.clear();
  } else {
    unreadable_.Clear();
    isCircling_ = false;
  }
  absl::StatusOr<Result> result = !newest.isUsed    ? Introduce(newest)
                                  : rows.size() > 1 ? Rewrap(newest, self)
                                                    : MayBegin(newest, mayBegin);
  if (!isTurning) Forget(newest);
  if (!result.ok()) {
    problem_ = absl::UnavailableError(StrCat("the epochs do not turn: ", ToStd(result.status().message())));
  } else if (!unreadable_.empty()) {
    problem_ = absl::UnavailableError(StrCat(
        "the turn to epoch ", newest.number, " cannot end, and no erasure becomes irrecoverable: ", unreadable_.Text(),
        ". Restore their rows from a backup of ", registry_.name(), ", or give them up: kveil epochs give-up"));
  } else if (isCircling_) {
    problem_ = absl::UnavailableError(StrCat(
        "the turn to epoch ", newest.number, " cannot end, and no erasure becomes irrecoverable: ", registry_.name(),
        " has active rows of the epoch before without a key's id, or its indexes are damaged"));
  } else if (isTurning && now - turningSince_ >= kPatience) {
    problem_ = absl::UnavailableError(StrCat("the turn to epoch ", newest.number, " has been under way for more than ",
                                             kPatience.count(), " hours: kveil epochs list"));
  } else if (!isTurning && !result->hasMore && IsDue(newest) && newest.age >= 2 * options_.turnEvery) {
    problem_ = absl::UnavailableError(
        StrCat("epoch ", newest.number, " should have turned long ago (keys.epochs.turnEvery): old copies of ",
               registry_.name(), " still open the records of users that were erased since"));
  } else {
    problem_ = absl::OkStatus();
  }
  return result;
}

// By a clock that was set back, nobody knows how old it is. Then the time that this agent has known it counts.
bool EpochTurns::IsDue(const Registry::Epoch& newest) const {
  const milliseconds every = options_.turnEvery;
  if (every.count() == 0) return false;
  const auto known = std::chrono::duration_cast<milliseconds>(options_.steadyNow() - seenSince_);
  const milliseconds age = newest.age < -seconds(2) ? known : newest.age;
  return age >= every && known >= std::min<milliseconds>(every, kKnownFor);
}

absl::StatusOr<EpochTurns::Result> EpochTurns::MayBegin(const Registry::Epoch& newest, bool mayBegin) {
  if (!making_.has_value() && !isAsked_ && !IsDue(newest)) return Result();
  if (!mayBegin) {
    if (isAsked_) return absl::UnavailableError("the root key is not well");
    return Result();  // it is a problem by itself
  }
  if (making_.has_value()) return Begin(newest);
  // Agents that know of no turns would take the new epoch's rows for damaged ones.
  ASSIGN_OR_RETURN(const std::vector<Registry::Agent> agents, registry_.ReadAgents());
  for (const Registry::Agent& agent : agents) {
    if (agent.epoch != 0) continue;
    waits_ = absl::UnavailableError(StrCat("the next turn waits: ", ToStd(OldAgent(agent).message())));
    return Result();
  }
  return Begin(newest);
}

absl::StatusOr<EpochTurns::Result> EpochTurns::Begin(const Registry::Epoch& newest) {
  if (!making_.has_value()) {
    ASSIGN_OR_RETURN(const std::optional<Registry::Identity> identity, registry_.ReadIdentity());
    if (!identity.has_value()) return absl::UnavailableError(StrCat(registry_.name(), " has no identity"));
    Registry::Epoch next = newest;
    ++next.number;
    Making making;  // not emplace(): clang 14 takes a nested class for one without a default constructor
    making.secretBefore = identity->wrappedSecret;
    making.number = next.number;
    // A provider that is a network away takes as long as it takes.
    making.turned = std::async(root_.isRemote() ? std::launch::async : std::launch::deferred,
                               [root = &root_, wrapped = RegistryKeys::WrappedOf(*identity, next)] {
                                 return root->Turn({wrapped.secret, wrapped.secretContext}, wrapped.epochContext,
                                                   std::chrono::steady_clock::now() + kMaking);
                               });
    making_ = std::move(making);
  }
  if (root_.isRemote() && making_->turned.wait_for(seconds(0)) != std::future_status::ready) return Result{true, false};
  Making making = *std::exchange(making_, std::nullopt);
  ASSIGN_OR_RETURN(const RootKey::Turned turned, making.turned.get());
  if (turned.secret != making.secretBefore) {
    RETURN_IF_ERROR(keys_.CheckSecret(root_, turned.secret, std::chrono::steady_clock::now() + kMaking));
  }
  ASSIGN_OR_RETURN(const bool isAdded, registry_.AddEpoch({making.number, turned.epoch.wrapped}, making.secretBefore,
                                                          turned.secret, options_.wallNow()));
  // If not, it was made too late, for a turn that has been since, or another agent was quicker, which the next step
  // sees.
  if (!isAdded) return Result();
  isAsked_ = false;
  log::Info("keys.epochs.turning", {{"epoch", making.number}});
  return Result{true, false};
}

absl::StatusOr<EpochTurns::Result> EpochTurns::Introduce(const Registry::Epoch& newest) {
  ASSIGN_OR_RETURN(const std::vector<Registry::Agent> agents, registry_.ReadAgents());
  for (const Registry::Agent& agent : agents) {
    if (agent.epoch >= newest.number) continue;
    if (agent.epoch == 0) return OldAgent(agent);
    // Before now, too: the registry's clock was set back since, and who is here is seen by the new one.
    if (std::chrono::abs(agent.lastSeen) >= kAway) continue;
    if (options_.steadyNow() - seenSince_ < kWaitSilently) return Result();
    return absl::UnavailableError(StrCat("agent ", agent.name, " has not unwrapped the key of epoch ", newest.number,
                                         " yet; see its own kveil status"));
  }
  ASSIGN_OR_RETURN(const bool isUsed, registry_.UseEpoch(newest.number, options_.wallNow()));
  if (isUsed) log::Info("keys.epochs.used", {{"epoch", newest.number}});
  return Result{true, false};
}

absl::StatusOr<EpochTurns::Result> EpochTurns::Rewrap(const Registry::Epoch& newest, const Registry::AgentId& self) {
  // After another opening, as of a standby that took over, the place may be another.
  if (leads_ != newest.number || openingOfLead_ != registry_.openings()) {
    RETURN_IF_ERROR(Lead(newest.number, self));
    if (leads_ == 0) return Result();
  }
  if (place_ == Registry::kTurnDone) return End(newest, self);
  const SteadyTime now = options_.timerNow();
  if (place_.empty()) {
    if (now < passNotBefore_) {
      leads_ = 0;  // so that it is led anew, and the agent heard of
      return Result();
    }
    passBegan_ = now;
    hasRewrapped_ = false;
  }
  Registry::TurnPlace after = place_;
  std::vector<Registry::Row> rewrapped;
  ASSIGN_OR_RETURN(const std::vector<Registry::Found> found, registry_.ReadRowsAfter(place_, kRowsOfAStep));
  RETURN_IF_ERROR(RewrapEach(found, newest.number, rewrapped, after));
  if (!rewrapped.empty()) hasRewrapped_ = true;
  const bool isEnd = found.size() < kRowsOfAStep;
  if (!isEnd && after == place_) return absl::UnavailableError(StrCat(registry_.name(), " has rows without ids"));
  const bool isAgain = isEnd && unreadable_.EndPass();
  if (isEnd) after = isAgain ? Registry::TurnPlace() : Registry::TurnPlace(Registry::kTurnDone);
  if (isEnd) passTook_ = now - passBegan_;
  if (isAgain) passNotBefore_ = now + kPassShare * passTook_;
  leads_ = 0;  // if the answer is lost, the place is read again
  ASSIGN_OR_RETURN(const bool isMoved, registry_.MoveTurn(newest.number, self, place_, after, rewrapped));
  if (!isMoved) return Result{true, false};  // another leads, or a row was put back: led anew
  leads_ = newest.number;
  place_ = std::move(after);
  return Result{!isAgain, false};
}

absl::StatusOr<EpochTurns::Result> EpochTurns::End(const Registry::Epoch& newest, const Registry::AgentId& self) {
  leads_ = 0;
  const absl::StatusOr<bool> hasEnded = registry_.EndTurn(newest.number, self, options_.wallNow());
  if (absl::IsAborted(hasEnded.status())) {
    waits_ = hasEnded.status();
    return Result();
  }
  RETURN_IF_ERROR(hasEnded.status());
  if (*hasEnded) {
    log::Info("keys.epochs.turned", {{"epoch", newest.number}});
    return Result{true, true};
  }
  // If this agent still leads, somebody has put rows behind the place. Or no pass ever finds them.
  ASSIGN_OR_RETURN(const bool isMoved,
                   registry_.MoveTurn(newest.number, self, Registry::TurnPlace(Registry::kTurnDone), {}, {}));
  isCircling_ = isMoved && !hasRewrapped_;
  if (isCircling_) passNotBefore_ = options_.timerNow() + kPassShare * passTook_;
  return Result{!isCircling_, false};
}

absl::Status EpochTurns::Lead(int64_t epoch, const Registry::AgentId& self) {
  leads_ = 0;
  const SteadyTime now = options_.timerNow();
  if (now < leadAgain_) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::optional<Registry::TurnPlace> place, registry_.LeadTurn(epoch, self, kLease));
  if (!place.has_value()) {
    leadAgain_ = now + kLeadAgain;
    unreadable_.Clear();  // the other one tells
    isCircling_ = false;
    return absl::OkStatus();
  }
  leads_ = epoch;
  openingOfLead_ = registry_.openings();
  place_ = *std::move(place);
  passBegan_ = now;
  hasRewrapped_ = true;
  return absl::OkStatus();
}

// Those that cannot be are noted. `after`: moves on to the last row.
absl::Status EpochTurns::RewrapEach(absl::Span<const Registry::Found> found, int64_t epoch,
                                    std::vector<Registry::Row>& rewrapped, Registry::TurnPlace& after) {
  for (const Registry::Found& one : found) {
    if (absl::IsDataLoss(one.status())) {
      unreadable_.NoteMalformed();
      continue;
    }
    RETURN_IF_ERROR(one.status());
    const Registry::Row& row = **one;
    after = AsText(row.id.bytes);
    if (row.erased || row.epoch >= epoch) continue;
    absl::StatusOr<Registry::Row> moved = keys_.Rewrap(row);
    if (absl::IsDataLoss(moved.status())) {
      unreadable_.Note(row.id);
      continue;
    }
    RETURN_IF_ERROR(moved.status());
    rewrapped.push_back(*std::move(moved));
  }
  return absl::OkStatus();
}

void EpochTurns::Forget(const Registry::Epoch& only) {
  const SteadyTime now = options_.timerNow();
  if (!only.endAge.has_value() || now < forgetNotBefore_) return;
  // By both clocks: the server's may jump. An agent that restarts goes by what the root key has noted.
  const bool isShared = registry_.isShared();
  const milliseconds noted = isShared ? root_.SettledFor(only.number) : milliseconds(0);
  const bool hasSettled = noted >= kForgetSharedAfter || options_.steadyNow() - settledSince_ >= kForgetSharedAfter;
  if (isShared && (*only.endAge < kForgetSharedAfter || !hasSettled)) {
    oldCopies_ = StrCat("can still be opened until ten minutes after the turn, in case that a standby of ",
                        registry_.name(), " takes over");
    return;
  }
  const absl::StatusOr<bool> isForgotten = ForgetNow(only);
  oldCopies_.clear();
  if (!isForgotten.ok()) {
    oldCopies_ = "can still be opened, see the note";
  } else if (!*isForgotten) {
    oldCopies_ = StrCat("can still be opened: ", root_.name(), " keeps what does until its operator destroys it");
  }
  if (isForgotten.ok() && *isForgotten && only.erasuresBefore.has_value()) {
    forgotten_ = {only.number, *only.erasuresBefore, options_.wallNow() - absl::FromChrono(*only.endAge)};
  }
  forgetNotBefore_ = now + (isForgotten.ok() ? kForgetAgain : kForgetAfterFailure);
  note_ = isForgotten.ok()
              ? absl::OkStatus()
              : absl::UnavailableError(StrCat("old copies of ", registry_.name(), " still open what was erased since: ",
                                              ToStd(isForgotten.status().message())));
}

absl::StatusOr<bool> EpochTurns::ForgetNow(const Registry::Epoch& only) {
  ASSIGN_OR_RETURN(const std::optional<Registry::Identity> identity, registry_.ReadIdentity());
  if (!identity.has_value()) return absl::UnavailableError(StrCat(registry_.name(), " has no identity"));
  const RegistryKeys::Wrapped needed = RegistryKeys::WrappedOf(*identity, only);
  return root_.ForgetOlder(needed.all(), std::chrono::steady_clock::now() + kMaking);
}

}  // namespace kveil::keys
