#include "guard/apis/share_refusals.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "base/text.h"
#include "proxy/owed_memory.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ShareFetchRequest;
using kafka::ShareFetchResponse;

// That the client may be refused in one response.
constexpr size_t kMostPartitions = proxy::OwedMemory::kMost / sizeof(ShareFetchResponse::Partition);

}  // namespace

absl::StatusOr<bool> ShareRefusals::TakeOut(ShareFetchRequest& request, bool mayHaveChanged) {
  for (const ShareFetchRequest::ForgottenTopic& topic : request.forgottenTopicsData) {
    for (const int32_t partition : topic.partitions) session_.Forget({topic.topicId, partition});
  }
  const bool hasLess = TakeOutRefused(request);
  const bool hasMore = PutInAllowed(request);
  // Nothing that might be read before is denied without other policies or claims.
  if (mayHaveChanged) WithholdDenied();
  if (partitions_ > kMostPartitions) {
    return absl::ResourceExhaustedError(StrCat("a ShareFetch request of which ", partitions_,
                                               " refused partitions would have to be remembered until the answer"));
  }
  const bool forgets = PutInForgotten(request);
  return hasLess || hasMore || forgets;
}

ErrorCode ShareRefusals::ErrorOf(const kafka::TopicId& id) {
  const auto [error, isNew] = errors_.try_emplace(id, ErrorCode::kNone);
  if (isNew) error->second = errorOf_(id);
  return error->second;
}

// Beyond the bound they are only counted.
void ShareRefusals::Refuse(const ShareSession::Partition& partition, ErrorCode error, bool acknowledges) {
  if (++partitions_ > kMostPartitions) return;
  const auto& [id, index] = partition;
  const auto [at, isNew] = refusedAt_.try_emplace(id, refused_.size());
  if (isNew) refused_.emplace_back().topicId = id;
  ShareFetchResponse::Partition& answered = refused_[at->second].partitions.emplace_back();
  answered.partitionIndex = index;
  answered.errorCode = error;
  if (acknowledges) answered.acknowledgeErrorCode = error;
  answered.records = Bytes();
}

// What is named in the request itself.
bool ShareRefusals::TakeOutRefused(ShareFetchRequest& request) {
  const size_t topics = request.topics.size();
  std::erase_if(request.topics, [&](const ShareFetchRequest::Topic& asked) {
    const ErrorCode error = ErrorOf(asked.topicId);
    for (const ShareFetchRequest::Partition& partition : asked.partitions) {
      const ShareSession::Partition key(asked.topicId, partition.partitionIndex);
      if (error == ErrorCode::kNone) {
        session_.Tell(key, partition.partitionMaxBytes);
        continue;
      }
      if (session_.Withhold(key, partition.partitionMaxBytes)) forgotten_[key.first].push_back(key.second);
      Refuse(key, error, !partition.acknowledgementBatches.empty());
    }
    return error != ErrorCode::kNone;
  });
  return request.topics.size() != topics;
}

// What was withheld earlier in the session: what may be read by now is put in, the rest refused again.
bool ShareRefusals::PutInAllowed(ShareFetchRequest& request) {
  bool changed = false;
  absl::flat_hash_map<kafka::TopicId, size_t> askedAt;
  for (size_t i = 0; i < request.topics.size(); ++i) askedAt[request.topics[i].topicId] = i;
  session_.TellOf([&](const ShareSession::Partition& key, const ShareSession::Withheld& withheld) {
    if (withheld.request == session_.request()) return false;  // it was refused just now
    if (const ErrorCode error = ErrorOf(key.first); error != ErrorCode::kNone) {
      Refuse(key, error, false);
      return false;
    }
    const auto [at, isAdded] = askedAt.try_emplace(key.first, request.topics.size());
    if (isAdded) request.topics.emplace_back().topicId = key.first;
    ShareFetchRequest::Partition& partition = request.topics[at->second].partitions.emplace_back();
    partition.partitionIndex = key.second;
    partition.partitionMaxBytes = withheld.maxBytes;
    changed = true;
    return true;
  });
  return changed;
}

// What the broker was told of earlier and may not be read any more: it would go on handing it out to this client, to
// nobody's use.
void ShareRefusals::WithholdDenied() {
  session_.WithholdAgain([&](const ShareSession::Partition& key) {
    const ErrorCode error = ErrorOf(key.first);
    if (error != ErrorCode::kTopicAuthorizationFailed) return false;
    Refuse(key, error, false);
    forgotten_[key.first].push_back(key.second);
    return true;
  });
}

bool ShareRefusals::PutInForgotten(ShareFetchRequest& request) {
  for (auto& [id, partitions] : forgotten_) {
    ShareFetchRequest::ForgottenTopic& topic = request.forgottenTopicsData.emplace_back();
    topic.topicId = id;
    topic.partitions = std::move(partitions);
  }
  return !forgotten_.empty();
}

void ShareRefusals::Add(const Topics& refused, ShareFetchResponse& response) {
  absl::flat_hash_map<kafka::TopicId, size_t> at;
  for (size_t i = 0; i < response.responses.size(); ++i) at[response.responses[i].topicId] = i;
  for (const ShareFetchResponse::Topic& topic : refused) {
    const auto known = at.find(topic.topicId);
    if (known == at.end()) {
      response.responses.push_back(topic);
      continue;
    }
    auto& partitions = response.responses[known->second].partitions;
    absl::flat_hash_set<int32_t> indexes;
    for (const ShareFetchResponse::Partition& partition : topic.partitions) indexes.insert(partition.partitionIndex);
    std::erase_if(partitions, [&](const auto& partition) { return indexes.contains(partition.partitionIndex); });
    partitions.insert(partitions.end(), topic.partitions.begin(), topic.partitions.end());
  }
}

}  // namespace kveil::guard
