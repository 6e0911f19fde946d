// What one Fetch request, or the requests of one session (KIP-227), asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "guard/apis/fetch_positions.h"
#include "guard/learn/topic_lookup.h"
#include "guard/state/shared_state.h"
#include "guard/worker/search_pace.h"
#include "io/task.h"
#include "io/turn.h"
#include "kafka/messages/fetch.h"
#include "proxy/memory_budget.h"

namespace kveil::guard {

// What it remembers counts against the worker's memory, within the workload's share (identity::Workload::share).
class FetchSession {
 public:
  // More than all partitions of any broker take.
  static constexpr size_t kMostBytes = 8 << 20;

  // For a request that names every partition (its epoch is kNoSession or kNewSession) and takes `bytes` to remember. If
  // that is more than kMostBytes, nothing is remembered, and everything in its response is looked at.
  FetchSession(SharedState& shared, proxy::MemoryBudget& budget, const proxy::ConnectionInfo& connection, int32_t epoch,
               size_t bytes);
  ~FetchSession() { budget_.ReleaseKept(connection_.workload.share, charged_, kept_); }
  FetchSession(const FetchSession&) = delete;
  FetchSession& operator=(const FetchSession&) = delete;

  // Whether the request continues this session: only with the next epoch. A session ends before its epochs wrap. So a
  // client whose requests the broker has refused never catches up with a session that still has what they forgot.
  bool ContinuesWith(const kafka::FetchRequest& request) const {
    return id_ != 0 && request.sessionId == id_ && request.sessionEpoch == nextEpoch_;
  }
  // Bytes that are remembered once the request is, too.
  size_t MemoryWith(const kafka::FetchRequest& request) const;
  // Takes room for so many bytes in all. Returns false if there is none.
  bool Reserve(size_t bytes);
  // Notes what a request says. Call Reserve first.
  void Apply(const kafka::FetchRequest& request);
  // No request will continue the session, so its room is free again with the response. Call it before Reserve.
  void EndWithAnswer() { kept_ = Kept::kUntilAnswered; }
  // The broker's id of the session, from the first response.
  void SetId(int32_t id) { id_ = id; }
  int32_t id() const { return id_; }  // 0 until then

  // Finds out, for a request that was just applied, whether any topic of the session may be protected by the policies
  // in force now. Looks at all topics if the policies have changed, and about once a second while topics are added or
  // an id has no name; otherwise only at those that were added. Asks the broker for the names of ids. `pace`: the
  // worker's.
  io::Task<void> Judge(const kafka::FetchRequest& request, TopicLookup& lookup, proxy::Upstream& upstream,
                       io::Turn& turn, SearchPace& pace);
  // Whether a response has to be looked at: a topic may be protected, or the policies have changed since Judge.
  bool NeedsGuard() const { return needsGuard_ || policyGeneration_ != shared_.policies.generation(); }
  // Memory that is not charged.
  size_t memoryNotCharged() const { return sizeof(*this) + positions_.memory() - charged_; }
  // What was asked for of a topic, or nullptr if that is not known. The pointer is valid until the next Apply.
  const FetchPositions::Partitions* Find(const TopicKey& topic) const { return positions_.Find(topic); }

 private:
  using Kept = proxy::MemoryBudget::Kept;
  using Clock = std::chrono::steady_clock;
  struct Judgement {
    bool needsGuard = false;
    std::vector<kafka::TopicId> unnamed;  // some of the ids without a name, as many as may be asked for
    bool hasUnknown = false;              // there are more
  };

  bool Charge(size_t bytes);
  bool AreAllDue() const;
  void Look(const TopicKey& topic, const policy::Policy& policies, SearchPace& pace, Judgement& judgement) const;

  SharedState& shared_;
  proxy::MemoryBudget& budget_;
  const proxy::ConnectionInfo& connection_;
  Kept kept_ = Kept::kUntilForgotten;
  size_t charged_ = 0;
  int32_t id_ = 0;
  int64_t nextEpoch_ = 1;  // beyond the last epoch, of a session that ends
  const bool isTooLarge_;
  FetchPositions positions_;
  // Worked out for these topics and this generation of the policies.
  bool needsGuard_ = true;
  std::vector<TopicKey> added_;  // since then
  uint64_t policyGeneration_ = 0;
  bool hasUnknown_ = false;  // a topic id that nobody could name yet
  Clock::time_point judgedAll_;
};

}  // namespace kveil::guard
