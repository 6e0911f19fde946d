#include "guard/apis/share_guard.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/text.h"
#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/learn/advertised_brokers.h"
#include "guard/worker/key_wait.h"
#include "io/turn.h"
#include "proxy/owed_memory.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ShareFetchRequest;
using kafka::ShareFetchResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// A client asks again at once after an error, and a broker answers at once where a session has nothing.
constexpr std::chrono::seconds kHold{1};
// How long a request waits for keys before it is answered with nothing: less than clients wait for an answer
// (request.timeout.ms, 30 s).
constexpr std::chrono::seconds kMostKeyWait{10};
// What one waits for keys when the response does not say how long its records stay locked (version 0), in milliseconds.
constexpr int32_t kUsualLockTimeout = 30'000;
// How much larger a batch usually is without its codec.
constexpr size_t kUsualRatio = 4;

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
  std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();
  int64_t maxBytes = 0;
  std::vector<ShareFetchResponse::Topic> refused;

  size_t bytes() const override {
    size_t bytes = sizeof(*this);
    for (const ShareFetchResponse::Topic& topic : refused) {
      bytes += sizeof(topic) + topic.partitions.size() * sizeof(topic.partitions[0]);
    }
    return bytes;
  }
};

ShareGuard::Access ShareGuard::AccessTo(const kafka::TopicId& id, const policy::Policy& policies) {
  Access access;
  access.name = shared_.topicNames.Find(id, connection_);
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
  for (const kafka::TopicId& id : session_.asked()) {
    std::optional<std::string> name = shared_.topicNames.Find(id, connection_);
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

// Takes what may not be read out of the request, and notes it: a request of a session names only what is new in it, and
// what the broker was not told it does not repeat. What may be read meanwhile is put in, and what may not be read any
// more the broker is told to forget: it would go on handing it out to this client, to nobody's use. Returns whether the
// request has changed, and in `refused` what the client hears of the rest, again with each answer, as a broker does it.
// An error: there is more of that than may be remembered until the answer.
absl::StatusOr<bool> ShareGuard::WithholdRefused(ShareFetchRequest& request,
                                                 std::vector<ShareFetchResponse::Topic>& refused) {
  for (const ShareFetchRequest::ForgottenTopic& topic : request.forgottenTopicsData) {
    for (const int32_t partition : topic.partitions) session_.Forget({topic.topicId, partition});
  }
  const uint64_t generation = shared_.policies.generation();
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  absl::flat_hash_map<kafka::TopicId, ErrorCode> errors;
  const auto errorOf = [&](const kafka::TopicId& id) {
    const auto [error, isNew] = errors.try_emplace(id, ErrorCode::kNone);
    if (isNew) error->second = AccessTo(id, *policies).error;
    return error->second;
  };
  absl::flat_hash_map<kafka::TopicId, size_t> refusedAt, askedAt;
  size_t bytes = 0;
  const auto refuse = [&](const kafka::TopicId& id, int32_t index, ErrorCode error, bool acknowledges) {
    bytes += sizeof(ShareFetchResponse::Partition);
    if (bytes > proxy::OwedMemory::kMost) return;
    const auto [at, isNew] = refusedAt.try_emplace(id, refused.size());
    if (isNew) refused.emplace_back().topicId = id;
    ShareFetchResponse::Partition& answered = refused[at->second].partitions.emplace_back();
    answered.partitionIndex = index;
    answered.errorCode = error;
    if (acknowledges) answered.acknowledgeErrorCode = error;
    answered.records = Bytes();
  };
  absl::flat_hash_map<kafka::TopicId, std::vector<int32_t>> forgotten;
  const size_t topics = request.topics.size();
  std::erase_if(request.topics, [&](const ShareFetchRequest::Topic& asked) {
    const ErrorCode error = errorOf(asked.topicId);
    for (const ShareFetchRequest::Partition& partition : asked.partitions) {
      const ShareSession::Partition key(asked.topicId, partition.partitionIndex);
      if (error == ErrorCode::kNone) {
        session_.Tell(key, partition.partitionMaxBytes);
        continue;
      }
      if (session_.Withhold(key, partition.partitionMaxBytes)) forgotten[key.first].push_back(key.second);
      refuse(asked.topicId, partition.partitionIndex, error, !partition.acknowledgementBatches.empty());
    }
    return error != ErrorCode::kNone;
  });
  bool changed = request.topics.size() != topics;
  for (size_t i = 0; i < request.topics.size(); ++i) askedAt[request.topics[i].topicId] = i;
  session_.TellOf([&](const ShareSession::Partition& key, const ShareSession::Withheld& withheld) {
    if (withheld.request == session_.request()) return false;  // it was refused just now
    if (const ErrorCode error = errorOf(key.first); error != ErrorCode::kNone) {
      refuse(key.first, key.second, error, false);
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
  // Nothing that might be read before is denied without another policy.
  if (std::exchange(toldBy_, generation) != generation) {
    session_.WithholdAgain([&](const ShareSession::Partition& key) {
      const ErrorCode error = errorOf(key.first);
      if (error != ErrorCode::kTopicAuthorizationFailed) return false;
      refuse(key.first, key.second, error, false);
      forgotten[key.first].push_back(key.second);
      return true;
    });
  }
  if (bytes > proxy::OwedMemory::kMost) {
    return absl::ResourceExhaustedError(StrCat("a ShareFetch request of which ",
                                               bytes / sizeof(ShareFetchResponse::Partition),
                                               " refused partitions would have to be remembered until the answer"));
  }
  for (auto& [id, partitions] : forgotten) {
    ShareFetchRequest::ForgottenTopic& topic = request.forgottenTopicsData.emplace_back();
    topic.topicId = id;
    topic.partitions = std::move(partitions);
    changed = true;
  }
  return changed;
}

io::Task<RequestVerdict> ShareGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                               proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  if (!ShareFetchRequest::kVersions.Contains(version)) {
    shared_.metrics.RecordsRefused(observe::RefuseReason::kUnsupportedVersion, 1);
    co_return RequestVerdict::Close(StrCat("ShareFetch version ", version, ", which the agent cannot read"));
  }
  Decoded<ShareFetchRequest> decoded(request.body, version, output.arena.budget());
  if (!decoded.ok()) co_return RequestVerdict::Close(std::string(decoded.status().message()));
  // The end of a session brings no records.
  if (decoded->shareSessionEpoch == ShareFetchRequest::kFinalEpoch) {
    session_.Clear();
    co_return RequestVerdict::Forward().WantResponse();
  }
  if (decoded->shareSessionEpoch == ShareFetchRequest::kNewSession) session_.Clear();
  session_.Begin(output.arena.budget());
  std::vector<kafka::TopicId> ids;
  for (const ShareFetchRequest::Topic& topic : decoded->topics) ids.push_back(topic.topicId);
  for (const kafka::TopicId& id : ids) session_.Ask(id);
  // One that could not be named may have a name now.
  for (const auto& [key, withheld] : session_.withheld()) ids.push_back(key.first);
  auto learning = lookup_.Learn(std::move(ids), upstream);
  co_await std::move(learning);
  // What was read before the keys were gone is to be acknowledged nevertheless.
  if (!Acknowledges(*decoded)) {
    auto waiting = WaitForKeys();
    const bool there = co_await std::move(waiting);
    if (!there) co_return AnswerNothing(request, output);
  }
  // The broker must not hear of what is refused: what it hands out to a client that does not get it would be given up
  // after some tries. The rest it hears in any case, if it is nothing: its own answer counts, and the session goes on.
  auto state = std::make_unique<State>();
  const absl::StatusOr<bool> changed = WithholdRefused(*decoded, state->refused);
  if (!changed.ok()) co_return RequestVerdict::Close(std::string(changed.status().message()));
  const auto most = static_cast<int32_t>(std::min<size_t>(shared_.limits.fetchBytes, INT32_MAX));
  const bool lowered = decoded->maxBytes > most;
  decoded->maxBytes = std::min(decoded->maxBytes, most);
  state->maxBytes = decoded->maxBytes;
  RequestVerdict verdict = *changed || lowered ? RewriteRequest(request, *decoded, output) : RequestVerdict::Forward();
  co_return std::move(verdict).WantResponse(std::move(state));
}

// While keys cannot be had, the one answer that is the agent's own. The broker must not hear of the request: its
// session has the topics, so it would hand out records that would not open, and each time counts as a delivery, of
// which a record has five. It finds the client's next epoch wrong, and the client begins a new session.
RequestVerdict ShareGuard::AnswerNothing(const proxy::RequestFrame& request, proxy::FrameOutput& output) {
  return AnswerRequest(request, ShareFetchResponse(), request.header.version, output);
}

// Adds what is refused to what the broker answered, in the place of what it said of the same partitions.
void ShareGuard::AddRefused(const std::vector<ShareFetchResponse::Topic>& refused, ShareFetchResponse& response) {
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

io::Task<ResponseVerdict> ShareGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                 proxy::FrameOutput& output) {
  Decoded<ShareFetchResponse> decoded(response.body, response.version, output.arena.budget());
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  auto learning = LearnEndpoints(shared_.brokers, loop_, connection_, decoded->nodeEndpoints);
  bool changed = co_await std::move(learning);
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  const int32_t lock = decoded->acquisitionLockTimeoutMs > 0 ? decoded->acquisitionLockTimeoutMs : kUsualLockTimeout;
  RecordsOpener::Response progress;
  // Two thirds of the lock's time, so that the client still has some for its work.
  progress.keyDeadline = std::chrono::steady_clock::now() +
                         std::max(shared_.limits.keyTimeout, std::chrono::milliseconds(int64_t{lock} * 2 / 3));
  bool hasRecords = false;
  // Larger than asked for where need be: a record that is not given counts as a try, and is given up after five.
  progress.mayEndEarly = false;
  progress.workLimit = 4 * shared_.limits.workOfResponse;
  const int64_t most = state == nullptr ? 0 : static_cast<const State&>(*state).maxBytes;
  progress.room = most - static_cast<int64_t>(response.frame.size());
  auto reserving = output.arena.Reserve(std::min(kUsualRatio * response.frame.size(),
                                                 std::max<size_t>(std::max<int64_t>(most, 0), response.frame.size())));
  (void)co_await std::move(reserving);
  opener_.Begin();
  io::Turn turn(loop_);
  for (ShareFetchResponse::Topic& topic : decoded->responses) {
    co_await turn.Pause();
    if (std::none_of(topic.partitions.begin(), topic.partitions.end(), HasRecords)) continue;
    hasRecords = true;
    const Access access = AccessTo(topic.topicId, *policies);
    if (access.name.has_value() && access.topic == nullptr) continue;
    for (ShareFetchResponse::Partition& partition : topic.partitions) {
      auto guarding = GuardPartition(access, progress, partition, output.arena);
      const bool rewritten = co_await std::move(guarding);
      changed = changed || rewritten;
    }
  }
  output.arena.ReturnRest();
  // With an error at the top a client looks at nothing else.
  if (state != nullptr && !static_cast<const State&>(*state).refused.empty() &&
      decoded->errorCode == ErrorCode::kNone) {
    const auto& ours = static_cast<const State&>(*state);
    AddRefused(ours.refused, *decoded);
    changed = true;
    const auto now = std::chrono::steady_clock::now();
    if (!hasRecords && now < ours.asked + kHold) {
      co_await loop_.Sleep(std::chrono::ceil<std::chrono::milliseconds>(ours.asked + kHold - now));
    }
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
