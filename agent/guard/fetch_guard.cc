#include "guard/fetch_guard.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "guard/advertised_brokers.h"
#include "guard/message_output.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// From here on a response may name a broker that the client does not know (KIP-951).
constexpr int16_t kFirstVersionWithNodeEndpoints = 16;
constexpr int16_t kFirstVersionWithZstd = 10;
// To earlier versions a broker (until 3.9) gives messages of magic 0 and 1, which have no headers: a sealed record
// would come without what it takes to open it, and look like one that was never sealed.
constexpr int16_t kFirstVersionWithHeaders = 4;
// A reader that gets nothing although the broker has data asks again at once; it is held for at least this long.
constexpr std::chrono::milliseconds kMinHold{1000};
constexpr std::chrono::milliseconds kMaxHold{5000};

void Deny(FetchResponse::Partition& partition, ErrorCode code) {
  partition.errorCode = code;
  partition.records = Bytes();
  partition.abortedTransactions.reset();
}

bool HasRecords(const FetchResponse::Partition& partition) {
  return partition.records.has_value() && !partition.records->empty();
}

}  // namespace

struct FetchGuard::State : proxy::RequestState {
  explicit State(FetchGuard& guard) : guard(guard) {}
  // A fetch may wait at the broker for long: the policy that counts is the one of the moment when records come.
  bool WantsResponse() override { return guard.NeedsGuard(*session) || isNeededAnyway; }

  FetchGuard& guard;
  std::shared_ptr<Session> session;
  std::chrono::milliseconds maxWait{0};
  bool recordsHaveHeaders = true;
  // For more than the records in it, or because of topics that a later request of the session may forget meanwhile.
  bool isNeededAnyway = false;
};

std::shared_ptr<FetchGuard::Session> FetchGuard::SessionFor(const FetchRequest& request) {
  // Epochs -1 (no session) and 0 (a new one) name every partition; later epochs only what changed (KIP-227).
  const bool begins = request.sessionEpoch <= 0;
  if (begins || session_ == nullptr || session_->id != request.sessionId) {
    session_ = std::make_shared<Session>();
    session_->isForeign = !begins;
    session_->id = begins ? 0 : request.sessionId;
  }
  if (session_->positions.Apply(request)) session_->topicsChanged = true;
  return session_;
}

bool FetchGuard::NeedsGuard(Session& session) {
  if (session.isForeign) return true;
  const uint64_t generation = shared_.policies.generation();
  if (!session.topicsChanged && !session.hasUnknown && session.policyGeneration == generation)
    return session.needsGuard;
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  session.topicsChanged = false;
  session.policyGeneration = generation;
  session.needsGuard = false;
  session.hasUnknown = false;
  for (const auto& [key, partitions] : session.positions.topics()) {
    const std::optional<std::string> name = key.id.IsZero() ? key.name : shared_.topicNames.Find(key.id);
    // An id that nobody could name yet may turn out to be a protected topic's: it is asked for again.
    if (!name.has_value()) session.hasUnknown = true;
    if (!name.has_value() || policies->Find(*name) != nullptr) session.needsGuard = true;
  }
  return session.needsGuard;
}

io::Task<RequestVerdict> FetchGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                               proxy::FrameOutput&) {
  const int16_t version = request.header.version;
  if (!FetchRequest::kVersions.Contains(version)) {
    shared_.metrics.RecordsRefused(observe::RefuseReason::kUnsupportedVersion, 1);
    co_return RequestVerdict::Close(StrCat("Fetch version ", version, ", which the agent cannot read"));
  }
  const absl::StatusOr<FetchRequest> decoded = kafka::Decode<FetchRequest>(request.body, version);
  if (!decoded.ok()) co_return RequestVerdict::Close(std::string(decoded.status().message()));
  if (request.header.clientId.has_value()) client_->LearnName(*request.header.clientId);
  if (decoded->IsFromReplica()) co_return RequestVerdict::Forward();

  auto state = std::make_unique<State>(*this);
  state->session = SessionFor(*decoded);
  state->maxWait = std::chrono::milliseconds(decoded->maxWaitMs);
  state->recordsHaveHeaders = version >= kFirstVersionWithHeaders;
  if (state->session->topicsChanged || state->session->hasUnknown) {
    std::vector<kafka::TopicId> ids;
    for (const auto& [key, partitions] : state->session->positions.topics()) ids.push_back(key.id);
    auto learning = lookup_.Learn(std::move(ids), upstream);
    co_await std::move(learning);
  }
  const bool namesSession = decoded->sessionEpoch == 0;
  const bool mayNameBrokers = version >= kFirstVersionWithNodeEndpoints;
  state->isNeededAnyway = NeedsGuard(*state->session) || namesSession || mayNameBrokers;
  co_return RequestVerdict::Forward().WantResponse(std::move(state));
}

io::Task<ResponseVerdict> FetchGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                 proxy::FrameOutput& output) {
  absl::StatusOr<FetchResponse> decoded = kafka::Decode<FetchResponse>(response.body, response.version);
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  auto learning = LearnEndpoints(shared_.brokers, loop_, connection_, decoded->nodeEndpoints);
  const bool leftOut = co_await std::move(learning);

  const auto& ours = static_cast<const State&>(*state);
  if (!ours.session->isForeign) ours.session->id = decoded->sessionId;
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  Progress progress;
  progress.changed = leftOut;
  progress.response.keyDeadline = std::chrono::steady_clock::now() + shared_.limits.keyTimeout;
  progress.response.zstdAllowed = response.version >= kFirstVersionWithZstd;
  for (FetchResponse::Topic& topic : decoded->responses) {
    auto guarding = GuardTopic(topic, ours, *policies, output.arena, progress);
    co_await std::move(guarding);
  }
  if (progress.stopped && !progress.response.delivered) {
    const auto hold = std::clamp(ours.maxWait, kMinHold, kMaxHold);
    co_await loop_.Sleep(hold);
  }
  if (!progress.changed) co_return ResponseVerdict::Forward();
  co_return RewriteResponse(response, *decoded, output);
}

io::Task<void> FetchGuard::GuardTopic(FetchResponse::Topic& topic, const State& state, const policy::Policy& policies,
                                      proxy::Arena& arena, Progress& progress) {
  std::optional<std::string> name = std::string(topic.topic);
  if (!topic.topicId.IsZero()) name = shared_.topicNames.Find(topic.topicId);
  const policy::TopicPolicy* topicPolicy = name.has_value() ? policies.Find(*name) : nullptr;
  if (name.has_value() && topicPolicy == nullptr) {
    for (const FetchResponse::Partition& partition : topic.partitions) {
      progress.response.delivered = progress.response.delivered || HasRecords(partition);
    }
    co_return;
  }
  const bool mayRead =
      topicPolicy != nullptr && state.recordsHaveHeaders && policy::MayRead(*topicPolicy, connection_.workload);
  const TopicKey key = FetchPositions::KeyOf(topic.topic, topic.topicId);
  for (FetchResponse::Partition& partition : topic.partitions) {
    if (!name.has_value()) {
      if (!HasRecords(partition)) continue;
      Deny(partition, ErrorCode::kUnknownTopicId);
      progress.changed = true;
    } else if (!mayRead) {
      if (HasRecords(partition)) shared_.metrics.RecordsRefused(observe::RefuseReason::kDenied, 1);
      denials_.Report(*name,
                      state.recordsHaveHeaders ? "policy" : "a Fetch version that gives records without headers");
      Deny(partition, ErrorCode::kTopicAuthorizationFailed);
      progress.changed = true;
      progress.response.delivered = true;  // an error is an answer: nothing to hold back
    } else if (HasRecords(partition)) {
      auto opening =
          OpenPartition(*topicPolicy, *name, state.session->positions.OffsetOf(key, partition.partitionIndex),
                        partition, arena, progress);
      co_await std::move(opening);
    }
  }
}

io::Task<void> FetchGuard::OpenPartition(const policy::TopicPolicy& topicPolicy, std::string_view topicName,
                                         int64_t fetchOffset, FetchResponse::Partition& partition, proxy::Arena& arena,
                                         Progress& progress) {
  RecordsOpener::Partition task;
  task.records = *partition.records;
  task.index = partition.partitionIndex;
  task.fetchOffset = fetchOffset;
  task.topicName = topicName;
  task.topic = &topicPolicy;
  task.masking = client_->MaskingOf(topicPolicy);
  auto opening = opener_.Open(task, progress.response, arena);
  const RecordsOpener::Result result = co_await std::move(opening);
  if (result.changed) {
    progress.changed = true;
    partition.records = result.records;
  }
  if (!result.records.empty() || !result.stop.has_value()) {
    // A partial batch alone is passed as it came: its reader asks again with a larger limit.
    progress.response.delivered = true;
    co_return;
  }
  progress.stopped = true;
  // Unreachable keys come back: no error, and the reader asks again. For the rest every client retries this code
  // quietly.
  if (*result.stop != observe::RefuseReason::kKeysUnavailable) partition.errorCode = ErrorCode::kNotLeaderOrFollower;
}

}  // namespace kveil::guard
