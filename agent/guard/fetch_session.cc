#include "guard/fetch_session.h"

#include <algorithm>
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
  if (positions_.Apply(request)) topicsChanged_ = true;
  Charge(positions_.memory());
  return true;
}

std::vector<kafka::TopicId> FetchSession::IdsToLearn(const kafka::FetchRequest& request) const {
  std::vector<kafka::TopicId> ids;
  if (isForeign_) {
    for (const kafka::FetchRequest::Topic& topic : request.topics) ids.push_back(topic.topicId);
    return ids;
  }
  if (!topicsChanged_ && !hasUnknown_) return ids;
  ids.reserve(positions_.topics().size());
  for (const auto& [key, partitions] : positions_.topics()) ids.push_back(key.id);
  return ids;
}

bool FetchSession::NeedsGuard() {
  if (isForeign_) return true;
  const uint64_t generation = shared_.policies.generation();
  if (!topicsChanged_ && !hasUnknown_ && policyGeneration_ == generation) return needsGuard_;
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  topicsChanged_ = false;
  policyGeneration_ = generation;
  needsGuard_ = false;
  hasUnknown_ = false;
  for (const auto& [key, partitions] : positions_.topics()) {
    const std::optional<std::string> name = key.id.IsZero() ? key.name : shared_.topicNames.Find(key.id, connection_);
    // An id that nobody could name yet may turn out to be a protected topic's: it is asked for again.
    if (!name.has_value()) hasUnknown_ = true;
    if (!name.has_value() || policies->Find(*name) != nullptr) needsGuard_ = true;
  }
  return needsGuard_;
}

}  // namespace kveil::guard
