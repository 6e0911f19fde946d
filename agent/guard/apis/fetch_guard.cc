#include "guard/apis/fetch_guard.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "base/status_macros.h"
#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/apis/reading.h"
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
// How often a fetch without room looks whether there is some.
constexpr std::chrono::milliseconds kRoomPause{50};

// Has the broker end the session that the request names, and nothing more.
void EndSession(FetchRequest& request) {
  request.sessionEpoch = FetchRequest::kNoSession;
  request.topics.clear();
  request.forgottenTopicsData.clear();
}

absl::Status CheckTopicNames(const FetchRequest& request) {
  for (const FetchRequest::Topic& topic : request.topics) RETURN_IF_ERROR(CheckTopicName("Fetch of", topic.topic));
  for (const FetchRequest::ForgottenTopic& topic : request.forgottenTopicsData) {
    RETURN_IF_ERROR(CheckTopicName("Fetch of", topic.topic));
  }
  return absl::OkStatus();
}

// Returns whether the request has changed.
bool LowerBounds(FetchRequest& request, int16_t version, const GuardLimits& limits) {
  bool changed = version >= FetchRequest::kFirstVersionWithMaxBytes && LowerBound(request.maxBytes, limits);
  for (FetchRequest::Topic& topic : request.topics) {
    for (FetchRequest::Partition& partition : topic.partitions) {
      const bool isLowered = LowerBound(partition.partitionMaxBytes, limits);
      changed = changed || isLowered;
    }
  }
  return changed;
}

}  // namespace

struct FetchGuard::State : proxy::RequestState {
  explicit State(std::shared_ptr<const identity::Claims> claims) { terms.claims = std::move(claims); }
  // A fetch may wait at the broker for long: the policy that counts is the one of the moment when records come.
  bool WantsResponse() override { return isNeededAnyway || session->NeedsGuard(); }
  // A session counts with the request that began it.
  size_t bytes() const override {
    return sizeof(*this) + terms.claims->bytes() + (isFirst ? session->memoryNotCharged() : 0);
  }

  std::shared_ptr<FetchSession> session;  // none of a replica, nor where it is refused
  bool isFirst = false;                   // of its session
  bool isRefused = false;                 // it goes on with no session of this connection
  bool isReplicas = false;
  std::chrono::milliseconds maxWait{0};
  FetchOpener::Terms terms;
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

io::Task<RequestVerdict> FetchGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                               proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  Decoded<FetchRequest> decoded(request, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  if (const absl::Status checked = CheckTopicNames(*decoded); !checked.ok()) {
    co_return RequestVerdict::Close(std::string(checked.message()));
  }
  if (request.header.clientId.has_value()) client_->LearnName(*request.header.clientId);
  if (decoded->IsFromReplica()) co_return TakeReplicas(request, *decoded, output);

  const bool isLowered = LowerBounds(*decoded, version, shared_.limits);
  auto state = std::make_unique<State>(ClaimsOf(request));
  auto taking = TakeIn(*decoded, upstream, output.arena.budget(), *state);
  const absl::StatusOr<bool> taken = co_await std::move(taking);
  if (!taken.ok()) co_return RequestVerdict::Close(std::string(taken.status().message()));
  if (state->isRefused) {
    state->isNeededAnyway = true;
    co_return RewriteRequest(request, *decoded, output).WantResponse(std::move(state));
  }
  const bool changed = isLowered || *taken;
  state->maxWait = std::chrono::milliseconds(decoded->maxWaitMs);
  if (version >= FetchRequest::kFirstVersionWithMaxBytes) state->terms.maxBytes = decoded->maxBytes;
  // Without headers a sealed record would come without what it takes to open it, and look like one that was never
  // sealed.
  state->terms.recordsHaveHeaders = version >= FetchResponse::kFirstVersionWithHeaders;
  state->terms.zstdAllowed = version >= FetchResponse::kFirstVersionWithZstd;
  io::Turn turn(loop_);
  auto judging = state->session->Judge(*decoded, lookup_, upstream, turn, scratch_.searchPace);
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
  auto state = std::make_unique<State>(ClaimsOf(request));
  state->isNeededAnyway = true;
  state->isRefused = decoded.sessionEpoch > FetchRequest::kNewSession;
  state->isReplicas = !state->isRefused;
  bool changed = state->isRefused;
  if (state->isRefused) {
    EndSession(decoded);
  } else {
    changed = LowerBounds(decoded, request.header.version, shared_.limits);
  }
  if (changed) return RewriteRequest(request, decoded, output).WantResponse(std::move(state));
  return RequestVerdict::Forward().WantResponse(std::move(state));
}

io::Task<ResponseVerdict> FetchGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                 proxy::FrameOutput& output) {
  Decoded<FetchResponse> decoded(response, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  const auto& ours = static_cast<const State&>(*state);
  if (ours.isReplicas) {
    replicaSession_ = decoded->sessionId;
    co_return ResponseVerdict::Forward();
  }
  auto learning = LearnBrokers(shared_.brokers, loop_, connection_, *decoded);
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
  auto opening = opener_.Open(*decoded, response.frame.size(), ours.terms, *ours.session, output.arena);
  const absl::StatusOr<FetchOpener::Outcome> opened = co_await std::move(opening);
  if (!opened.ok()) co_return ResponseVerdict::Close(std::string(opened.status().message()));
  if (opened->isHeldBack) {
    const auto hold = std::clamp(ours.maxWait, kMinHold, kMaxHold);
    co_await loop_.Sleep(hold);
  }
  if (!leftOut && !opened->changed) co_return ResponseVerdict::Forward();
  co_return RewriteResponse(response, *decoded, output);
}

}  // namespace kveil::guard
