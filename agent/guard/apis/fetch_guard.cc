#include "guard/apis/fetch_guard.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/learn/advertised_brokers.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// A reader that gets nothing although the broker has data asks again at once; it is held for at least this long.
constexpr std::chrono::milliseconds kMinHold{1000};
constexpr std::chrono::milliseconds kMaxHold{5000};
// How much larger a batch usually is without its codec.
constexpr size_t kUsualRatio = 4;
// Partitions of a connection that are remembered for having had no records.
constexpr size_t kMostStarved = 256;
// Partitions of a response that are looked at between two looks at the clock.
constexpr size_t kAtOnce = 1024;
constexpr std::chrono::milliseconds kRoomPause{50};

void Deny(FetchResponse::Partition& partition, ErrorCode code) {
  partition.errorCode = code;
  partition.records = Bytes();
  partition.abortedTransactions.reset();
}

bool HasRecords(const FetchResponse::Partition& partition) {
  return partition.records.has_value() && !partition.records->empty();
}

bool IsTooLong(std::string_view name) { return name.size() > kafka::kLongestTopicName; }

// Why a connection ends: no broker has such a topic, and what is remembered of topics, and logged, holds their names.
std::string TooLong(std::string_view name) { return StrCat("Fetch of a topic with a name of ", name.size(), " bytes"); }

// Has the broker end the session that the request names, and nothing more.
void EndSession(FetchRequest& request) {
  request.sessionEpoch = FetchRequest::kNoSession;
  request.topics.clear();
  request.forgottenTopicsData.clear();
}

// The first name in the request that no topic can have, or an empty one.
std::string_view TooLongIn(const FetchRequest& request) {
  for (const FetchRequest::Topic& topic : request.topics) {
    if (IsTooLong(topic.topic)) return topic.topic;
  }
  for (const FetchRequest::ForgottenTopic& topic : request.forgottenTopicsData) {
    if (IsTooLong(topic.topic)) return topic.topic;
  }
  return {};
}

}  // namespace

struct FetchGuard::State : proxy::RequestState {
  // A fetch may wait at the broker for long: the policy that counts is the one of the moment when records come.
  bool WantsResponse() override { return isNeededAnyway || session->NeedsGuard(); }
  // A session counts with the request that began it.
  size_t bytes() const override { return sizeof(*this) + (isFirst ? session->memoryNotCharged() : 0); }

  std::shared_ptr<FetchSession> session;  // none of a replica, nor where it is refused
  bool isFirst = false;                   // of its session
  bool isRefused = false;                 // it goes on with no session of this connection
  bool isReplicas = false;
  std::chrono::milliseconds maxWait{0};
  int64_t maxBytes = 0;  // of the records of all partitions
  bool recordsHaveHeaders = true;
  // For more than the records in it, or because of topics that a later request of the session may forget meanwhile.
  bool isNeededAnyway = false;
};

// Notes what the request asks for. Where there is no room for a session, its client goes on without: as with a broker
// that has no place for it, or has given its place away. Returns whether that changed the request. An error: other
// fetches of the workload have all its room, and none was answered in time.
io::Task<absl::StatusOr<bool>> FetchGuard::TakeIn(FetchRequest& request, proxy::Upstream& upstream,
                                                  proxy::MemoryBudget& budget, State& state) {
  if (request.sessionEpoch > FetchRequest::kNewSession) {
    if (GoOn(request, state)) co_return false;
    state.isRefused = true;
    EndSession(request);
    co_return true;
  }
  session_ = nullptr;  // its room may be needed
  const size_t bytes = FetchPositions().MemoryFor(request, FetchSession::kMostBytes);
  state.session = std::make_shared<FetchSession>(shared_, budget, connection_, request.sessionEpoch, bytes);
  state.isFirst = true;
  bool hasRoom = state.session->Reserve(bytes);
  const bool endsWithAnswer = !hasRoom && request.sessionEpoch == FetchRequest::kNewSession;
  if (endsWithAnswer) {
    NoteNotKept();
    request.sessionEpoch = FetchRequest::kNoSession;
    state.session->EndWithAnswer();
    hasRoom = state.session->Reserve(bytes);
  }
  const auto deadline = std::chrono::steady_clock::now() + shared_.limits.roomTimeout;
  while (!hasRoom) {
    if (upstream.IsApplicationGone() || std::chrono::steady_clock::now() > deadline) {
      co_return absl::ResourceExhaustedError("the workload's fetches that are not answered have all its room");
    }
    co_await loop_.Sleep(kRoomPause);
    hasRoom = state.session->Reserve(bytes);
  }
  state.session->Apply(request);
  if (request.sessionEpoch == FetchRequest::kNewSession) session_ = state.session;
  co_return endsWithAnswer;
}

// Whether the request goes on with this connection's session. Any other session's topics are not known here, and a
// broker lets every connection go on with it: so no other connection may, or its answers would hold what the one that
// has begun it does not know of. Nor may a request that the broker refuses be taken in.
bool FetchGuard::GoOn(FetchRequest& request, State& state) {
  if (session_ == nullptr) return false;
  if (session_->ContinuesWith(request)) {
    if (session_->Reserve(session_->MemoryWith(request))) {
      session_->Apply(request);
      state.session = session_;
      return true;
    }
    NoteNotKept();
  }
  if (request.sessionId == session_->id()) session_ = nullptr;
  return false;
}

void FetchGuard::NoteNotKept() {
  shared_.FetchSessionNotKept();
  if (std::exchange(saidNotKept_, true)) return;
  const identity::Workload& workload = connection_.workload;
  log::Warning("fetch.sessionNotKept",
               {{"connection", connection_.id}, {"workload", workload.name()}, {"share", workload.share}});
}

// A response that is longer than the agent may hold would end the connection, again and again. Returns whether the
// request has changed.
bool FetchGuard::LowerBounds(FetchRequest& request, int16_t version) const {
  const auto most = static_cast<int32_t>(std::min<size_t>(shared_.limits.fetchBytes, INT32_MAX));
  bool changed = false;
  if (version >= FetchRequest::kFirstVersionWithMaxBytes && request.maxBytes > most) {
    request.maxBytes = most;
    changed = true;
  }
  for (FetchRequest::Topic& topic : request.topics) {
    for (FetchRequest::Partition& partition : topic.partitions) {
      if (partition.partitionMaxBytes <= most) continue;
      partition.partitionMaxBytes = most;
      changed = true;
    }
  }
  return changed;
}

io::Task<RequestVerdict> FetchGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                               proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  if (!FetchRequest::kVersions.Contains(version)) {
    shared_.metrics.RecordsRefused(observe::RefuseReason::kUnsupportedVersion, 1);
    co_return RequestVerdict::Close(StrCat("Fetch version ", version, ", which the agent cannot read"));
  }
  Decoded<FetchRequest> decoded(request.body, version, output.arena.budget());
  if (!decoded.ok()) co_return RequestVerdict::Close(std::string(decoded.status().message()));
  if (const std::string_view name = TooLongIn(*decoded); !name.empty()) co_return RequestVerdict::Close(TooLong(name));
  if (request.header.clientId.has_value()) client_->LearnName(*request.header.clientId);
  if (decoded->IsFromReplica()) co_return TakeReplicas(request, *decoded, output);

  const bool isLowered = LowerBounds(*decoded, version);
  auto state = std::make_unique<State>();
  auto taking = TakeIn(*decoded, upstream, output.arena.budget(), *state);
  const absl::StatusOr<bool> taken = co_await std::move(taking);
  if (!taken.ok()) co_return RequestVerdict::Close(std::string(taken.status().message()));
  if (state->isRefused) {
    state->isNeededAnyway = true;
    co_return RewriteRequest(request, *decoded, output).WantResponse(std::move(state));
  }
  const bool changed = isLowered || *taken;
  state->maxWait = std::chrono::milliseconds(decoded->maxWaitMs);
  state->maxBytes = version >= FetchRequest::kFirstVersionWithMaxBytes ? decoded->maxBytes : RecordsOpener::kNoBound;
  // Without headers a sealed record would come without what it takes to open it, and look like one that was never
  // sealed.
  state->recordsHaveHeaders = version >= FetchResponse::kFirstVersionWithHeaders;
  io::Turn turn(loop_);
  auto judging = state->session->Judge(*decoded, lookup_, upstream, turn);
  co_await std::move(judging);
  const bool namesSession = decoded->sessionEpoch == FetchRequest::kNewSession;
  const bool mayNameBrokers = version >= FetchResponse::kFirstVersionWithNodeEndpoints;
  state->isNeededAnyway = state->session->NeedsGuard() || namesSession || mayNameBrokers;
  if (changed) co_return RewriteRequest(request, *decoded, output).WantResponse(std::move(state));
  co_return RequestVerdict::Forward().WantResponse(std::move(state));
}

// A replica's fetch is never opened, nor its answer looked at. But it must not bring topics into the session of a
// reader: it goes on with a replica's session, and with one that this connection has begun.
RequestVerdict FetchGuard::TakeReplicas(const proxy::RequestFrame& request, FetchRequest& decoded,
                                        proxy::FrameOutput& output) {
  if (decoded.sessionEpoch <= FetchRequest::kNewSession) replicaSession_ = 0;
  const bool goesOn = replicaSession_ != 0 && decoded.sessionId == replicaSession_;
  if (decoded.sessionEpoch < FetchRequest::kNewSession ||
      (decoded.sessionEpoch > FetchRequest::kNewSession && goesOn)) {
    return RequestVerdict::Forward();
  }
  auto state = std::make_unique<State>();
  state->isNeededAnyway = true;
  state->isRefused = decoded.sessionEpoch > FetchRequest::kNewSession;
  state->isReplicas = !state->isRefused;
  bool changed = state->isRefused;
  if (state->isRefused) {
    EndSession(decoded);
  } else {
    changed = LowerBounds(decoded, request.header.version);
  }
  if (changed) return RewriteRequest(request, decoded, output).WantResponse(std::move(state));
  return RequestVerdict::Forward().WantResponse(std::move(state));
}

io::Task<ResponseVerdict> FetchGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                 proxy::FrameOutput& output) {
  Decoded<FetchResponse> decoded(response.body, response.version, output.arena.budget());
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  const auto& ours = static_cast<const State&>(*state);
  if (ours.isReplicas) {
    replicaSession_ = decoded->sessionId;
    co_return ResponseVerdict::Forward();
  }
  auto learning = LearnEndpoints(shared_.brokers, loop_, connection_, decoded->nodeEndpoints);
  const bool leftOut = co_await std::move(learning);

  if (ours.isRefused) {
    if (decoded->errorCode == ErrorCode::kNone) decoded->errorCode = ErrorCode::kFetchSessionIdNotFound;
    decoded->sessionId = 0;
    decoded->responses.clear();
    co_return RewriteResponse(response, *decoded, output);
  }
  if (ours.isFirst) ours.session->SetId(decoded->sessionId);
  // The broker has no session, has it no more, or has not taken a request of it: no other goes on with it.
  const bool hasSession = decoded->sessionId != 0 && decoded->sessionId == ours.session->id();
  if (session_ == ours.session && (!hasSession || decoded->errorCode != ErrorCode::kNone)) session_ = nullptr;
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  Progress progress(output.arena.budget());
  progress.changed = leftOut;
  progress.response.keyDeadline = std::chrono::steady_clock::now() + shared_.limits.keyTimeout;
  progress.response.zstdAllowed = response.version >= FetchResponse::kFirstVersionWithZstd;
  io::Turn turn(loop_);
  for (FetchResponse::Topic& topic : decoded->responses) {
    if (IsTooLong(topic.topic)) co_return ResponseVerdict::Close(TooLong(topic.topic));
    co_await turn.Pause();
    auto checking = CheckTopic(topic, ours, *policies, turn, progress);
    co_await std::move(checking);
  }
  auto opening = OpenReadable(ours, response.frame.size(), output.arena, progress);
  co_await std::move(opening);
  if (progress.stopped && !progress.response.delivered) {
    const auto hold = std::clamp(ours.maxWait, kMinHold, kMaxHold);
    co_await loop_.Sleep(hold);
  }
  if (!progress.changed) co_return ResponseVerdict::Forward();
  co_return RewriteResponse(response, *decoded, output);
}

// Denies what may not be read, and notes what is to be opened.
io::Task<void> FetchGuard::CheckTopic(FetchResponse::Topic& topic, const State& state, const policy::Policy& policies,
                                      io::Turn& turn, Progress& progress) {
  std::optional<std::string> name = std::string(topic.topic);
  if (!topic.topicId.IsZero()) name = shared_.topicNames.Find(topic.topicId, connection_);
  const policy::TopicPolicy* topicPolicy = name.has_value() ? policies.Find(*name) : nullptr;
  const bool mayRead =
      topicPolicy != nullptr && state.recordsHaveHeaders && policy::MayRead(*topicPolicy, connection_.workload);
  if (topicPolicy != nullptr && !mayRead && !topic.partitions.empty()) {
    denials_.Report(*name, state.recordsHaveHeaders ? "policy" : "a Fetch version that gives records without headers");
  }
  const TopicKey key = FetchPositions::KeyOf(topic.topic, topic.topicId);
  const FetchPositions::Partitions* asked = nullptr;
  Topic* readable = nullptr;
  for (size_t i = 0; i < topic.partitions.size(); ++i) {
    if (i % kAtOnce == 0) {
      co_await turn.Pause();
      asked = mayRead ? state.session->Find(key) : nullptr;  // a request may have come meanwhile
    }
    FetchResponse::Partition& partition = topic.partitions[i];
    if (!name.has_value()) {
      if (!HasRecords(partition)) continue;
      Deny(partition, ErrorCode::kUnknownTopicId);
      progress.changed = true;
    } else if (topicPolicy == nullptr) {
      progress.response.delivered = progress.response.delivered || HasRecords(partition);
    } else if (!mayRead) {
      if (HasRecords(partition)) shared_.metrics.RecordsRefused(observe::RefuseReason::kDenied, 1);
      Deny(partition, ErrorCode::kTopicAuthorizationFailed);
      progress.changed = true;
      progress.response.delivered = true;  // an error is an answer: nothing to hold back
    } else if (HasRecords(partition)) {
      if (readable == nullptr) readable = &progress.Add(key, *name, topicPolicy);
      Add(*readable, partition, asked, progress);
    }
  }
}

FetchGuard::Topic& FetchGuard::Progress::Add(const TopicKey& key, std::string_view name,
                                             const policy::TopicPolicy* policy) {
  Count(sizeof(Topic) + name.size());
  Topic& topic = topics.emplace_back();
  topic.hash = absl::HashOf(key);
  topic.name = std::string(name);
  topic.policy = policy;
  return topic;
}

// Notes a partition that is to be opened, and whether it is the one that has waited for longest.
void FetchGuard::Add(const Topic& topic, FetchResponse::Partition& partition, const FetchPositions::Partitions* asked,
                     Progress& progress) const {
  progress.Count(sizeof(Readable));
  Readable& readable = progress.readable.emplace_back();
  readable.topic = &topic;
  readable.partition = &partition;
  progress.bytes += partition.records->size();
  if (asked != nullptr) {
    const auto found = asked->find(partition.partitionIndex);
    if (found != asked->end()) readable.asked = found->second;
  }
  if (starved_.empty()) return;
  const auto starved = starved_.find(HashOf(readable));
  if (starved == starved_.end() || starved->second >= progress.overdueSince) return;
  progress.overdue = progress.readable.size() - 1;
  progress.overdueSince = starved->second;
}

size_t FetchGuard::HashOf(const Readable& readable) {
  return absl::HashOf(readable.topic->hash, readable.partition->partitionIndex);
}

void FetchGuard::NoteStarved(const Readable& readable, bool isStarved) {
  if (!isStarved) {
    if (!starved_.empty()) starved_.erase(HashOf(readable));
    return;
  }
  // Some may be of partitions that nobody reads any more. Those that still wait come again.
  if (starved_.size() >= kMostStarved) starved_.clear();
  starved_.try_emplace(HashOf(readable), ++starvedCount_);
}

// Opens all of them, within what the reader is ready for.
io::Task<void> FetchGuard::OpenReadable(const State& state, size_t frameSize, proxy::Arena& arena, Progress& progress) {
  if (progress.readable.empty()) co_return;
  const size_t sealed = progress.bytes;
  const auto most = static_cast<size_t>(std::max<int64_t>(state.maxBytes, 0));
  // Nothing is read into memory that is not there; for more than what was asked for, and was sent, there is no use.
  auto reserving = arena.Reserve(std::min(kUsualRatio * sealed, std::max(most, sealed)));
  (void)co_await std::move(reserving);
  progress.response.room = state.maxBytes - static_cast<int64_t>(frameSize);
  progress.response.workLimit = shared_.limits.workOfResponse;
  const size_t count = progress.readable.size();
  opener_.Begin();
  for (size_t i = 0; i < count; ++i) {
    const size_t at = (progress.overdue.value_or(0) + i) % count;
    auto opening = OpenPartition(progress.readable[at], at == progress.overdue, arena, progress);
    co_await std::move(opening);
  }
  arena.ReturnRest();
}

io::Task<void> FetchGuard::OpenPartition(const Readable& readable, bool isOverdue, proxy::Arena& arena,
                                         Progress& progress) {
  FetchResponse::Partition& partition = *readable.partition;
  RecordsOpener::Partition task;
  task.records = *partition.records;
  task.index = partition.partitionIndex;
  task.topicName = readable.topic->name;
  task.topic = readable.topic->policy;
  task.masking = client_->MaskingOf(*task.topic);
  task.isOverdue = isOverdue;
  // Where it is not known what was asked for, the records stay as large as they are.
  task.room = 0;
  if (readable.asked.has_value()) {
    task.fetchOffset = readable.asked->offset;
    task.room = readable.asked->maxBytes - static_cast<int64_t>(task.records.size());
  }
  auto opening = opener_.Open(task, progress.response, arena);
  RecordsOpener::Result result = co_await std::move(opening);
  const bool isStarved = result.endedEarly && result.records.empty();
  NoteStarved(readable, isStarved);
  if (result.changed) {
    progress.changed = true;
    partition.records = result.records;
  }
  if (isStarved) co_return;  // the reader comes again for it
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
