// What one Fetch request, or the requests of one session (KIP-227), asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "guard/apis/fetch_positions.h"
#include "guard/state/shared_state.h"
#include "kafka/messages/fetch.h"
#include "proxy/memory_budget.h"

namespace kveil::guard {

// What it remembers is charged to the worker's memory, within the share of the workload (policy::Workload::share).
class FetchSession {
 public:
  FetchSession(const SharedState& shared, proxy::MemoryBudget& budget, const proxy::ConnectionInfo& connection,
               const kafka::FetchRequest& first);
  ~FetchSession() { budget_.ReleaseKept(connection_.workload.share, charged_, kept_); }
  FetchSession(const FetchSession&) = delete;
  FetchSession& operator=(const FetchSession&) = delete;

  // Whether the request goes on with this session.
  // Only with its next epoch: the broker refuses any other, and keeps its session as it was.
  bool ContinuesWith(const kafka::FetchRequest& request) const {
    return request.sessionEpoch > 0 && request.sessionId == id_ && request.sessionEpoch == nextEpoch_;
  }
  // Takes in what a request says. False, and nothing is taken in, when there is no room for that.
  bool Apply(const kafka::FetchRequest& request);
  // Before anything was taken in: no request will go on with it, so that its room is free again with the answer.
  void EndWithAnswer() { kept_ = Kept::kUntilAnswered; }
  // The broker's name for it, once its first answer is there. Of one begun elsewhere it is the request's.
  void SetId(int32_t id) {
    if (!isForeign_) id_ = id;
  }

  // Whether any of its topics may be protected, by the policies in force now. All of them are looked at when the
  // policies change and about once a second while topics come or one has an id without a name: otherwise those that
  // have come.
  bool NeedsGuard();
  // The ids of topics whose names may be missing, and of what was begun elsewhere those in the request. All ids without
  // a name are asked for again about once a second.
  std::vector<kafka::TopicId> IdsToLearn(const kafka::FetchRequest& request) const;
  // Memory that is not charged.
  size_t memoryNotCharged() const { return sizeof(*this) + positions_.memory() - charged_; }
  // What it asked for of a topic, valid until the next Apply; nullptr where that is not known.
  const FetchPositions::Partitions* Find(const TopicKey& topic) const { return positions_.Find(topic); }

 private:
  using Kept = proxy::MemoryBudget::Kept;

  using Clock = std::chrono::steady_clock;

  bool Charge(size_t bytes);
  bool AreAllDue() const;
  void Judge(const TopicKey& topic, const policy::Policy& policies);

  const SharedState& shared_;
  proxy::MemoryBudget& budget_;
  const proxy::ConnectionInfo& connection_;
  Kept kept_ = Kept::kUntilForgotten;
  size_t charged_ = 0;
  int32_t id_ = 0;  // 0 until the broker's answer names it
  int32_t nextEpoch_ = 1;
  // Its topics are not known, so everything it answers is looked at: it was begun on another connection, has more
  // partitions than are remembered, or had a request out of turn.
  bool isForeign_ = false;
  FetchPositions positions_;
  // Worked out for these topics and this generation of the policies.
  bool needsGuard_ = true;
  std::vector<TopicKey> added_;  // since then
  uint64_t policyGeneration_ = 0;
  bool hasUnknown_ = false;  // a topic id that nobody could name yet
  Clock::time_point judgedAll_;
};

}  // namespace kveil::guard
