// What one Fetch request, or the requests of one session (KIP-227), asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "guard/apis/fetch_positions.h"
#include "guard/learn/topic_lookup.h"
#include "guard/state/shared_state.h"
#include "io/task.h"
#include "io/turn.h"
#include "kafka/messages/fetch.h"
#include "proxy/memory_budget.h"

namespace kveil::guard {

// What it remembers is charged to the worker's memory, within the share of the workload (identity::Workload::share).
class FetchSession {
 public:
  // More than the partitions of any broker take.
  static constexpr size_t kMostBytes = 8 << 20;

  // For a request that names every partition (epoch -1, no session, or 0, a new one), and takes `bytes` to remember.
  // Of one that takes more than kMostBytes nothing is remembered, and everything it is answered is looked at.
  FetchSession(const SharedState& shared, proxy::MemoryBudget& budget, const proxy::ConnectionInfo& connection,
               int32_t epoch, size_t bytes);
  ~FetchSession() { budget_.ReleaseKept(connection_.workload.share, charged_, kept_); }
  FetchSession(const FetchSession&) = delete;
  FetchSession& operator=(const FetchSession&) = delete;

  // Whether the request goes on with this session: only with its next epoch. A session ends before its epochs begin
  // anew, so that one whose requests the broker has refused, which keeps what they forget, never catches up with it.
  bool ContinuesWith(const kafka::FetchRequest& request) const {
    return id_ != 0 && request.sessionId == id_ && request.sessionEpoch == nextEpoch_;
  }
  // Bytes that it takes to remember the request, beside what is remembered already.
  size_t MemoryWith(const kafka::FetchRequest& request) const;
  // Takes room for that. False where there is none.
  bool Reserve(size_t bytes);
  // Takes in what a request says, for which there is room.
  void Apply(const kafka::FetchRequest& request);
  // Before room was taken: no request will go on with it, so that its room is free again with the answer.
  void EndWithAnswer() { kept_ = Kept::kUntilAnswered; }
  // The broker's name for it, from its first answer.
  void SetId(int32_t id) { id_ = id; }
  int32_t id() const { return id_; }  // 0 until then

  // Works out, for a request that was just taken in, whether any of its topics may be protected, by the policies in
  // force now. All of them are looked at when the policies have changed, and about once a second while topics come or
  // one has an id without a name; otherwise those that have come. Ids without a name are asked for.
  io::Task<void> Judge(const kafka::FetchRequest& request, TopicLookup& lookup, proxy::Upstream& upstream,
                       io::Turn& turn);
  // Whether an answer has to be looked at: a topic may be protected, or the policies have changed since Judge.
  bool NeedsGuard() const { return needsGuard_ || policyGeneration_ != shared_.policies.generation(); }
  // Memory that is not charged.
  size_t memoryNotCharged() const { return sizeof(*this) + positions_.memory() - charged_; }
  // What it asked for of a topic, valid until the next Apply; nullptr where that is not known.
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
  void Look(const TopicKey& topic, const policy::Policy& policies, Judgement& judgement) const;

  const SharedState& shared_;
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
