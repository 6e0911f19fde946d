#include "guard/fetch_session.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kveil::guard {
namespace {

// What every connection may have without being charged: some hundred partitions.
constexpr size_t kFreeBytes = 16 << 10;

}  // namespace

FetchSession::FetchSession(const SharedState& shared, proxy::MemoryBudget& budget, const kafka::FetchRequest& first)
    : shared_(shared), budget_(budget) {
  // Epochs -1 (no session) and 0 (a new one) name every partition; later epochs only what changed.
  isForeign_ = first.sessionEpoch > 0;
  if (isForeign_) id_ = first.sessionId;
}

bool FetchSession::Charge(size_t bytes) {
  bytes -= std::min(bytes, kFreeBytes);
  if (bytes > charged_ && !budget_.TryKeep(bytes - charged_)) return false;
  if (bytes < charged_) budget_.ReleaseKept(charged_ - bytes);
  charged_ = bytes;
  return true;
}

void FetchSession::Apply(const kafka::FetchRequest& request) {
  if (isForeign_) return;
  size_t partitions = positions_.partitionCount();
  for (const kafka::FetchRequest::Topic& topic : request.topics) partitions += topic.partitions.size();
  if (!Charge(FetchPositions::MemoryFor(positions_.topics().size() + request.topics.size(), partitions))) {
    isForeign_ = true;
    positions_ = FetchPositions();
    Charge(0);
    return;
  }
  if (positions_.Apply(request)) topicsChanged_ = true;
  Charge(FetchPositions::MemoryFor(positions_.topics().size(), positions_.partitionCount()));
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
    const std::optional<std::string> name = key.id.IsZero() ? key.name : shared_.topicNames.Find(key.id);
    // An id that nobody could name yet may turn out to be a protected topic's: it is asked for again.
    if (!name.has_value()) hasUnknown_ = true;
    if (!name.has_value() || policies->Find(*name) != nullptr) needsGuard_ = true;
  }
  return needsGuard_;
}

}  // namespace kveil::guard
