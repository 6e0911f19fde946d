#include "guard/apis/fetch_session.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kveil::guard {
namespace {

// What each may have without being charged: some hundred partitions.
constexpr size_t kFreeBytes = 16 << 10;
// More than the partitions of any broker: of a request or a session that names more nothing is remembered.
constexpr size_t kMostBytes = 8 << 20;
// All topics are looked at again after so long.
constexpr std::chrono::seconds kLookAgain{1};

}  // namespace

FetchSession::FetchSession(const SharedState& shared, proxy::MemoryBudget& budget,
                           const proxy::ConnectionInfo& connection, const kafka::FetchRequest& first)
    : shared_(shared), budget_(budget), connection_(connection) {
  // Epochs -1 (no session) and 0 (a new one) name every partition; later epochs only what changed.
  isForeign_ = first.sessionEpoch > 0 || positions_.MemoryFor(first) > kMostBytes;
  if (first.sessionEpoch > 0) id_ = first.sessionId;
  if (first.sessionEpoch < 0) kept_ = Kept::kUntilAnswered;
}

bool FetchSession::Charge(size_t bytes) {
  bytes -= std::min(bytes, kFreeBytes);
  if (bytes > charged_ && !budget_.TryKeep(connection_.workload.share, bytes - charged_, kept_)) return false;
  if (bytes < charged_) budget_.ReleaseKept(connection_.workload.share, charged_ - bytes, kept_);
  charged_ = bytes;
  return true;
}

bool FetchSession::Apply(const kafka::FetchRequest& request) {
  constexpr int32_t kLastEpoch = std::numeric_limits<int32_t>::max();
  nextEpoch_ = request.sessionEpoch == kLastEpoch ? 1 : request.sessionEpoch + 1;
  if (isForeign_) return true;
  const size_t needed = positions_.memory() + positions_.MemoryFor(request);
  if (needed > kMostBytes || !Charge(needed)) return false;
  std::vector<TopicKey> added = positions_.Apply(request);
  added_.insert(added_.end(), std::make_move_iterator(added.begin()), std::make_move_iterator(added.end()));
  Charge(positions_.memory());
  return true;
}

// An id without a name may turn out to be a protected topic's, and others are forgotten: so all are looked at again.
// But a request of a few bytes must not cost as much as all the topics of its session.
bool FetchSession::AreAllDue() const {
  return policyGeneration_ != shared_.policies.generation() ||
         ((hasUnknown_ || !added_.empty()) && Clock::now() - judgedAll_ >= kLookAgain);
}

std::vector<kafka::TopicId> FetchSession::IdsToLearn(const kafka::FetchRequest& request) const {
  std::vector<kafka::TopicId> ids;
  if (isForeign_) {
    for (const kafka::FetchRequest::Topic& topic : request.topics) ids.push_back(topic.topicId);
  } else if (AreAllDue()) {
    ids.reserve(positions_.topics().size());
    for (const auto& [key, partitions] : positions_.topics()) ids.push_back(key.id);
  } else {
    for (const TopicKey& key : added_) ids.push_back(key.id);
  }
  return ids;
}

bool FetchSession::NeedsGuard() {
  if (isForeign_) return true;
  const bool areAllDue = AreAllDue();
  if (!areAllDue && added_.empty()) return needsGuard_;
  const uint64_t generation = shared_.policies.generation();
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  if (areAllDue) {
    policyGeneration_ = generation;
    judgedAll_ = Clock::now();
    needsGuard_ = false;
    hasUnknown_ = false;
    for (const auto& [key, partitions] : positions_.topics()) Judge(key, *policies);
  } else {
    for (const TopicKey& key : added_) Judge(key, *policies);
  }
  added_.clear();
  return needsGuard_;
}

void FetchSession::Judge(const TopicKey& topic, const policy::Policy& policies) {
  const std::optional<std::string> name =
      topic.id.IsZero() ? topic.name : shared_.topicNames.Find(topic.id, connection_);
  if (!name.has_value()) hasUnknown_ = true;
  if (!name.has_value() || policies.Find(*name) != nullptr) needsGuard_ = true;
}

}  // namespace kveil::guard
