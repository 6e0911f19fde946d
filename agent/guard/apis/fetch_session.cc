#include "guard/apis/fetch_session.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kveil::guard {
namespace {

// What each may have without being charged: some hundred partitions.
constexpr size_t kFreeBytes = 16 << 10;
// All topics are looked at again after so long.
constexpr std::chrono::seconds kLookAgain{1};

}  // namespace

FetchSession::FetchSession(SharedState& shared, proxy::MemoryBudget& budget, const proxy::ConnectionInfo& connection,
                           int32_t epoch, size_t bytes)
    : shared_(shared), budget_(budget), connection_(connection), isTooLarge_(bytes > kMostBytes) {
  if (epoch < 0) kept_ = Kept::kUntilAnswered;
}

bool FetchSession::Charge(size_t bytes) {
  bytes -= std::min(bytes, kFreeBytes);
  if (bytes > charged_ && !budget_.TryKeep(connection_.workload.share, bytes - charged_, kept_)) return false;
  if (bytes < charged_) budget_.ReleaseKept(connection_.workload.share, charged_ - bytes, kept_);
  charged_ = bytes;
  return true;
}

size_t FetchSession::MemoryWith(const kafka::FetchRequest& request) const {
  return isTooLarge_ ? 0 : positions_.memory() + positions_.MemoryFor(request, kMostBytes);
}

bool FetchSession::Reserve(size_t bytes) { return isTooLarge_ || (bytes <= kMostBytes && Charge(bytes)); }

void FetchSession::Apply(const kafka::FetchRequest& request) {
  nextEpoch_ = int64_t{request.sessionEpoch} + 1;
  if (isTooLarge_) return;
  std::vector<TopicKey> added = positions_.Apply(request);
  added_.insert(added_.end(), std::make_move_iterator(added.begin()), std::make_move_iterator(added.end()));
  Charge(positions_.memory());
}

// An id without a name may turn out to be a protected topic's, and others are forgotten: so all are looked at again.
// But a request of a few bytes must not cost as much as all the topics of its session.
bool FetchSession::AreAllDue() const {
  return policyGeneration_ != shared_.policies.generation() ||
         ((hasUnknown_ || !added_.empty()) && Clock::now() - judgedAll_ >= kLookAgain);
}

io::Task<void> FetchSession::Judge(const kafka::FetchRequest& request, TopicLookup& lookup, proxy::Upstream& upstream,
                                   io::Turn& turn, SearchPace& pace) {
  const bool areAllDue = AreAllDue();
  if (!isTooLarge_ && !areAllDue && added_.empty()) co_return;
  const uint64_t generation = shared_.policies.generation();
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  Judgement judgement;
  if (isTooLarge_) {
    judgement.needsGuard = true;
    for (const kafka::FetchRequest::Topic& topic : request.topics) {
      co_await pace.Pause(connection_.workload.share, turn, shared_.searchesWaitedAt);
      Look(FetchPositions::KeyOf(topic.topic, topic.topicId), *policies, pace, judgement);
    }
  } else if (areAllDue) {
    for (const auto& [key, partitions] : positions_.topics()) {
      co_await pace.Pause(connection_.workload.share, turn, shared_.searchesWaitedAt);
      Look(key, *policies, pace, judgement);
    }
  } else {
    judgement.needsGuard = needsGuard_;
    judgement.hasUnknown = hasUnknown_;
    for (const TopicKey& key : added_) {
      co_await pace.Pause(connection_.workload.share, turn, shared_.searchesWaitedAt);
      Look(key, *policies, pace, judgement);
    }
  }
  if (areAllDue) judgedAll_ = Clock::now();
  added_.clear();
  if (!judgement.unnamed.empty()) {
    auto learning = lookup.Learn(judgement.unnamed, upstream);
    co_await std::move(learning);
    for (const kafka::TopicId& id : std::exchange(judgement.unnamed, {})) {
      co_await turn.Pause();
      TopicKey key;
      key.id = id;
      Look(key, *policies, pace, judgement);
    }
  }
  hasUnknown_ = judgement.hasUnknown || !judgement.unnamed.empty();
  needsGuard_ = judgement.needsGuard || hasUnknown_;
  if (areAllDue) policyGeneration_ = generation;
}

void FetchSession::Look(const TopicKey& topic, const policy::Policy& policies, SearchPace& pace,
                        Judgement& judgement) const {
  std::optional<std::string> name = topic.id.IsZero() ? topic.name : shared_.topicNames.Find(topic.id, connection_);
  if (name.has_value()) {
    if (judgement.needsGuard) return;
    std::chrono::nanoseconds searched{};
    judgement.needsGuard = policies.Find(*name, &searched) != nullptr;
    pace.Charge(connection_.workload.share, searched);
  } else if (judgement.unnamed.size() < TopicLookup::kMostUseful) {
    judgement.unnamed.push_back(topic.id);
  } else {
    judgement.hasUnknown = true;
  }
}

}  // namespace kveil::guard
