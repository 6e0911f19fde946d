#include "guard/share_guard.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "guard/key_wait.h"
#include "guard/message_output.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ShareFetchRequest;
using kafka::ShareFetchResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

constexpr int32_t kFinalEpoch = -1;
constexpr size_t kMostTopics = 10'000;  // of a connection that are looked at for missing keys
// A client asks again at once after an error.
constexpr std::chrono::seconds kHold{1};
// How long a request waits for keys before it is answered with nothing: less than clients wait for an answer
// (request.timeout.ms, 30 s).
constexpr std::chrono::seconds kMostKeyWait{10};
// What one waits for keys when the response does not say how long its records stay locked (version 0), in milliseconds.
constexpr int32_t kUsualLockTimeout = 30'000;

bool HasRecords(const ShareFetchResponse::Partition& partition) {
  return partition.records.has_value() && !partition.records->empty();
}

bool Acknowledges(const ShareFetchRequest& request) {
  for (const ShareFetchRequest::Topic& topic : request.topics) {
    for (const ShareFetchRequest::Partition& partition : topic.partitions) {
      if (!partition.acknowledgementBatches.empty()) return true;
    }
  }
  return false;
}

// Takes the offsets from `end` on out of what the client has to acknowledge. The broker keeps them locked until its
// time is up, and then hands them out again.
void Withhold(int64_t end, std::vector<ShareFetchResponse::AcquiredRecords>& acquired) {
  std::erase_if(acquired, [end](const auto& range) { return range.firstOffset >= end; });
  for (ShareFetchResponse::AcquiredRecords& range : acquired) range.lastOffset = std::min(range.lastOffset, end - 1);
}

}  // namespace

struct ShareGuard::State : proxy::RequestState {
  std::vector<ShareFetchResponse::Topic> refused;
};

ShareGuard::Access ShareGuard::AccessTo(const kafka::TopicId& id, const policy::Policy& policies) {
  Access access;
  access.name = shared_.topicNames.Find(id);
  if (!access.name.has_value()) {
    access.error = ErrorCode::kUnknownTopicId;
    return access;
  }
  access.topic = policies.Find(*access.name);
  if (access.topic != nullptr && !policy::MayRead(*access.topic, connection_.workload)) {
    access.error = ErrorCode::kTopicAuthorizationFailed;
    denials_.Report(*access.name);
  }
  return access;
}

// One of those that this connection has asked for.
std::optional<std::string> ShareGuard::TopicInOutage() const {
  if (!shared_.keyOutages.any()) return std::nullopt;
  for (const kafka::TopicId& id : asked_) {
    std::optional<std::string> name = shared_.topicNames.Find(id);
    if (!name.has_value()) continue;
    if (shared_.keyOutages.Find(connection_.cluster, *name, KeyOutages::Clock::now()).has_value()) return name;
  }
  return std::nullopt;
}

// Whether the keys that were missing can be had now. Waits for them a while.
io::Task<bool> ShareGuard::WaitForKeys() {
  const auto deadline = std::chrono::steady_clock::now() +
                        std::min<std::chrono::milliseconds>(kMostKeyWait, 2 * shared_.limits.keyTimeout);
  for (;;) {
    const std::optional<std::string> topic = TopicInOutage();
    if (!topic.has_value()) co_return true;
    std::optional<keys::Misses> missing =
        shared_.keyOutages.Find(connection_.cluster, *topic, KeyOutages::Clock::now());
    if (!missing.has_value()) continue;  // another connection has them
    // Once, as another connection may have ended it meanwhile.
    auto fetching = FetchKeys(loop_, scratch_.keyCache, scratch_.keyRoom, connection_.workload, *std::move(missing),
                              KeyOutages::Clock::time_point::min());
    const absl::Status fetched = co_await std::move(fetching);
    if (fetched.ok()) shared_.keyOutages.Ended(connection_.cluster, *topic);
    if (!fetched.ok() && std::chrono::steady_clock::now() > deadline) co_return false;
  }
}

// Takes the topics that may not be read out of the request; returns their part of the answer.
std::vector<ShareFetchResponse::Topic> ShareGuard::TakeRefused(ShareFetchRequest& request) {
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  std::vector<ShareFetchResponse::Topic> refused;
  std::erase_if(request.topics, [&](const ShareFetchRequest::Topic& asked) {
    const ErrorCode error = AccessTo(asked.topicId, *policies).error;
    if (error == ErrorCode::kNone) return false;
    ShareFetchResponse::Topic& topic = refused.emplace_back();
    topic.topicId = asked.topicId;
    for (const ShareFetchRequest::Partition& partition : asked.partitions) {
      ShareFetchResponse::Partition& answered = topic.partitions.emplace_back();
      answered.partitionIndex = partition.partitionIndex;
      answered.errorCode = error;
      if (!partition.acknowledgementBatches.empty()) answered.acknowledgeErrorCode = error;
      answered.records = Bytes();
    }
    return true;
  });
  return refused;
}

io::Task<RequestVerdict> ShareGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                               proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  if (!ShareFetchRequest::kVersions.Contains(version)) {
    shared_.metrics.RecordsRefused(observe::RefuseReason::kUnsupportedVersion, 1);
    co_return RequestVerdict::Close(StrCat("ShareFetch version ", version, ", which the agent cannot read"));
  }
  absl::StatusOr<ShareFetchRequest> decoded = kafka::Decode<ShareFetchRequest>(request.body, version);
  if (!decoded.ok()) co_return RequestVerdict::Close(std::string(decoded.status().message()));
  // The end of a session brings no records.
  if (decoded->shareSessionEpoch == kFinalEpoch) co_return RequestVerdict::Forward().WantResponse();
  std::vector<kafka::TopicId> ids;
  for (const ShareFetchRequest::Topic& topic : decoded->topics) ids.push_back(topic.topicId);
  if (asked_.size() < kMostTopics) asked_.insert(ids.begin(), ids.end());
  auto learning = lookup_.Learn(std::move(ids), upstream);
  co_await std::move(learning);
  // What was read before the keys were gone is to be acknowledged nevertheless.
  if (!Acknowledges(*decoded)) {
    auto waiting = WaitForKeys();
    const bool there = co_await std::move(waiting);
    if (!there) co_return AnswerLocally({}, request, output);
  }
  // The broker must not hear of these: what it hands out to a client that does not get it would be given up after some
  // tries.
  auto state = std::make_unique<State>();
  state->refused = TakeRefused(*decoded);
  if (state->refused.empty()) co_return RequestVerdict::Forward().WantResponse();
  if (!decoded->topics.empty()) {
    co_return RewriteRequest(request, *decoded, output).WantResponse(std::move(state));
  }
  co_await loop_.Sleep(kHold);
  co_return AnswerLocally(std::move(state->refused), request, output);
}

// The broker does not hear of the request: it finds the client's next epoch wrong, and the client begins a new session.
RequestVerdict ShareGuard::AnswerLocally(std::vector<ShareFetchResponse::Topic> topics,
                                         const proxy::RequestFrame& request, proxy::FrameOutput& output) {
  ShareFetchResponse response;
  response.responses = std::move(topics);
  return AnswerRequest(request, response, request.header.version, output);
}

io::Task<ResponseVerdict> ShareGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                 proxy::FrameOutput& output) {
  absl::StatusOr<ShareFetchResponse> decoded = kafka::Decode<ShareFetchResponse>(response.body, response.version);
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  for (const kafka::NodeEndpoint& broker : decoded->nodeEndpoints) {
    auto learning = shared_.brokers.Learn(loop_, broker.host, broker.port, connection_.targetIndex);
    const absl::Status learned = co_await std::move(learning);
    if (!learned.ok()) co_return ResponseVerdict::Close(std::string(learned.message()));
  }
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  const int32_t lock = decoded->acquisitionLockTimeoutMs > 0 ? decoded->acquisitionLockTimeoutMs : kUsualLockTimeout;
  RecordsOpener::Response progress;
  // Two thirds of the lock's time, so that the client still has some for its work.
  progress.keyDeadline = std::chrono::steady_clock::now() +
                         std::max(shared_.limits.keyTimeout, std::chrono::milliseconds(int64_t{lock} * 2 / 3));
  bool changed = false;
  for (ShareFetchResponse::Topic& topic : decoded->responses) {
    if (std::none_of(topic.partitions.begin(), topic.partitions.end(), HasRecords)) continue;
    const Access access = AccessTo(topic.topicId, *policies);
    if (access.name.has_value() && access.topic == nullptr) continue;
    for (ShareFetchResponse::Partition& partition : topic.partitions) {
      auto guarding = GuardPartition(access, progress, partition, output.arena);
      const bool rewritten = co_await std::move(guarding);
      changed = changed || rewritten;
    }
  }
  if (state != nullptr) {
    const auto& refused = static_cast<const State&>(*state).refused;
    decoded->responses.insert(decoded->responses.end(), refused.begin(), refused.end());
    changed = true;
  }
  if (!changed) co_return ResponseVerdict::Forward();
  co_return RewriteResponse(response, *decoded, output);
}

// Returns whether the partition was changed.
io::Task<bool> ShareGuard::GuardPartition(const Access& access, RecordsOpener::Response& progress,
                                          ShareFetchResponse::Partition& partition, proxy::Arena& arena) {
  if (!HasRecords(partition)) co_return false;
  if (access.error != ErrorCode::kNone) {
    // The policy changed while the request was at the broker.
    shared_.metrics.RecordsRefused(observe::RefuseReason::kDenied, 1);
    partition.errorCode = access.error;
    partition.records = Bytes();
    partition.acquiredRecords.clear();
    co_return true;
  }
  RecordsOpener::Partition task;
  task.records = *partition.records;
  task.index = partition.partitionIndex;
  task.topicName = *access.name;
  task.topic = access.topic;
  task.masking.erased = true;
  task.masking.plaintext = true;
  auto opening = opener_.Open(task, progress, arena);
  RecordsOpener::Result result = co_await std::move(opening);
  if (!result.missing.empty()) {
    shared_.keyOutages.Began(connection_.cluster, task.topicName, std::move(result.missing), KeyOutages::Clock::now());
  }
  if (!result.changed) co_return false;
  partition.records = result.records;
  if (result.endOffset.has_value()) Withhold(*result.endOffset, partition.acquiredRecords);
  progress.delivered = progress.delivered || !result.records.empty();
  co_return true;
}

}  // namespace kveil::guard
