#include "guard/apis/share_guard.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/status_macros.h"
#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/learn/advertised_brokers.h"
#include "guard/state/count_refused.h"
#include "guard/worker/fetch_needs.h"
#include "io/turn.h"

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
// For a response that does not say how long its records stay locked (version 0), in milliseconds.
constexpr int32_t kUsualLockTimeout = 30'000;

constexpr std::string_view kRulesLeaveOut = "rules that leave records out, in a share group";

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
  explicit State(Claims claims) : claims(std::move(claims)) {}

  std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();
  const Claims claims;
  int64_t maxBytes = 0;
  ShareRefusals::Topics refused;

  size_t bytes() const override {
    size_t bytes = sizeof(*this) + claims->bytes();
    for (const ShareFetchResponse::Topic& topic : refused) {
      bytes += sizeof(topic) + topic.partitions.size() * sizeof(topic.partitions[0]);
    }
    return bytes;
  }
};

ReadAccess ShareGuard::AccessTo(const kafka::TopicId& id, const policy::Policy& policies,
                                const identity::Claims& claims) {
  ReadAccess access = ShareAccessTo(shared_.topicNames.Find(id, connection_), policies, connection_.workload, claims);
  scratch_.searchPace.Charge(connection_.workload.share, access.searched);
  if (access.isDenied()) Deny(access, access.readers.has_value() ? kRulesLeaveOut : "policy");
  return access;
}

void ShareGuard::Deny(const ReadAccess& access, std::string_view reason) {
  denials_.Report(*access.name, reason);
  TellAuditOfDenial(scratch_, AuditedOf(access, connection_));
}

// One of a topic that this connection has asked for.
std::optional<ShareGuard::Outage> ShareGuard::FindOutage(const identity::Claims& claims) {
  if (!shared_.keyOutages.any()) return std::nullopt;
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  for (const kafka::TopicId& id : session_.asked()) {
    const ReadAccess access =
        ReadAccessTo(shared_.topicNames.Find(id, connection_), *policies, connection_.workload, claims);
    if (!access.name.has_value()) continue;
    if (std::optional<Outage> outage = FindOutageOf(access); outage.has_value()) return outage;
  }
  return std::nullopt;
}

std::optional<ShareGuard::Outage> ShareGuard::FindOutageOf(const ReadAccess& access) {
  const auto now = KeyOutages::Clock::now();
  KeyOutages::Place place{connection_.cluster, *access.name};
  std::optional<Needs> missing = shared_.keyOutages.Find(place, now);
  if (missing.has_value()) return Outage{*access.name, "", *std::move(missing)};
  if (!access.readers.has_value()) return std::nullopt;
  place.readers = access.readers->bytes();
  missing = shared_.keyOutages.Find(place, now);
  if (!missing.has_value()) return std::nullopt;
  // A user whom the entries do not name any more is no reason to wait.
  const policy::RecordRules& rules = *access.policy->rules;
  const bool isNamed =
      std::any_of(missing->keys.scopes.begin(), missing->keys.scopes.end(), [&](const keys::OwnedScopeName& name) {
        const std::optional<uint32_t> user = rules.NumberOf(name.subject);
        return user.has_value() && rules.NameUser(*access.readers, *user);
      });
  if (isNamed) return Outage{*access.name, std::string(place.readers), *std::move(missing)};
  shared_.keyOutages.Ended(place);
  return std::nullopt;
}

// What stopped a topic's records. Keys of records stop every member. Those of users that rules name stop only the
// members whose rules these are.
void ShareGuard::NoteOutage(const ReadAccess& access, Needs missing) {
  const auto now = KeyOutages::Clock::now();
  KeyOutages::Place place{connection_.cluster, *access.name};
  if (access.readers.has_value() && !missing.keys.scopes.empty()) {
    Needs users;
    users.keys.scopes = std::exchange(missing.keys.scopes, {});
    place.readers = access.readers->bytes();
    shared_.keyOutages.Began(place, std::move(users), now);
    place.readers = {};
  }
  if (!missing.empty()) shared_.keyOutages.Began(place, std::move(missing), now);
}

// Whether the keys that were missing can be had now. Waits for them a while.
io::Task<bool> ShareGuard::WaitForKeys(const identity::Claims& claims) {
  const auto deadline = std::chrono::steady_clock::now() +
                        std::min<std::chrono::milliseconds>(kMostKeyWait, 2 * shared_.limits.keyTimeout);
  for (;;) {
    std::optional<Outage> outage = FindOutage(claims);
    if (!outage.has_value()) co_return true;
    // Once, as another connection may have ended it meanwhile.
    auto fetching = FetchNeeds(loop_, scratch_, connection_.workload, std::move(outage->missing),
                               KeyOutages::Clock::time_point::min());
    const absl::Status fetched = co_await std::move(fetching);
    if (fetched.ok()) {
      shared_.keyOutages.Ended({connection_.cluster, outage->topic, outage->readers});
    } else if (std::chrono::steady_clock::now() > deadline) {
      co_return false;
    }
  }
}

io::Task<RequestVerdict> ShareGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                               proxy::FrameOutput& output) {
  Decoded<ShareFetchRequest> decoded(request, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  const Claims claims = ClaimsOf(request);
  if (decoded->shareSessionEpoch == ShareFetchRequest::kNewSession) {
    client_->shareMember.Begin(decoded->groupId, decoded->memberId);
  } else if (!client_->shareMember.Is(decoded->groupId, decoded->memberId)) {
    ShareFetchResponse unknown;
    unknown.errorCode = ErrorCode::kShareSessionNotFound;
    co_return AnswerRequest(request, unknown, request.header.version, output);
  }
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
    auto waiting = WaitForKeys(*claims);
    const bool there = co_await std::move(waiting);
    if (!there) co_return AnswerNothing(request, output);
  }
  // What is left of the request the broker hears in any case, if it is nothing: its own answer counts, and the session
  // goes on.
  auto state = std::make_unique<State>(claims);
  const absl::StatusOr<bool> changed = TakeOutRefused(*decoded, claims, state->refused);
  if (!changed.ok()) co_return RequestVerdict::Close(std::string(changed.status().message()));
  const bool isLowered = LowerBound(decoded->maxBytes, shared_.limits);
  state->maxBytes = decoded->maxBytes;
  RequestVerdict verdict =
      *changed || isLowered ? RewriteRequest(request, *decoded, output) : RequestVerdict::Forward();
  co_return std::move(verdict).WantResponse(std::move(state));
}

// Returns whether the request has changed. An error: more is refused than may be remembered.
absl::StatusOr<bool> ShareGuard::TakeOutRefused(ShareFetchRequest& request, const Claims& claims,
                                                ShareRefusals::Topics& refused) {
  const uint64_t generation = shared_.policies.generation();
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  const auto errorOf = [&](const kafka::TopicId& id) { return AccessTo(id, *policies, *claims).error; };
  const std::pair now(generation, claims);
  ShareRefusals refusals(session_, errorOf);
  ASSIGN_OR_RETURN(const bool changed, refusals.TakeOut(request, std::exchange(toldBy_, now) != now));
  refused = refusals.TakeRefused();
  return changed;
}

// While keys cannot be had, the one answer that is the agent's own. The broker must not hear of the request: its
// session has the topics, so it would hand out records that would not open, and each time counts as a delivery, of
// which a record has five. It finds the client's next epoch wrong, and the client begins a new session.
RequestVerdict ShareGuard::AnswerNothing(const proxy::RequestFrame& request, proxy::FrameOutput& output) {
  return AnswerRequest(request, ShareFetchResponse(), request.header.version, output);
}

io::Task<ResponseVerdict> ShareGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                 proxy::FrameOutput& output) {
  Decoded<ShareFetchResponse> decoded(response, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  auto learning = LearnBrokers(shared_.brokers, loop_, connection_, *decoded);
  const bool leftOut = co_await std::move(learning);
  const auto* const ours = static_cast<const State*>(state);  // nullptr: the session ends
  const int64_t most = ours == nullptr ? 0 : ours->maxBytes;
  const identity::Claims none;
  const identity::Claims& claims = ours == nullptr ? none : *ours->claims;
  auto opening = OpenTopics(*decoded, response.frame.size(), most, claims, output.arena);
  const Opened opened = co_await std::move(opening);
  bool changed = leftOut || opened.changed;
  // With an error at the top a client looks at nothing else.
  if (ours != nullptr && !ours->refused.empty() && decoded->errorCode == ErrorCode::kNone) {
    ShareRefusals::Add(ours->refused, *decoded);
    changed = true;
    const auto now = std::chrono::steady_clock::now();
    if (!opened.hadRecords && now < ours->asked + kHold) {
      co_await loop_.Sleep(std::chrono::ceil<std::chrono::milliseconds>(ours->asked + kHold - now));
    }
  }
  if (!changed) co_return ResponseVerdict::Forward();
  co_return RewriteResponse(response, *decoded, output);
}

// `most`: bytes that the client is ready for.
io::Task<ShareGuard::Opened> ShareGuard::OpenTopics(ShareFetchResponse& response, size_t frameSize, int64_t most,
                                                    const identity::Claims& claims, proxy::Arena& arena) {
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  const int32_t lock = response.acquisitionLockTimeoutMs > 0 ? response.acquisitionLockTimeoutMs : kUsualLockTimeout;
  RecordsOpener::Response progress;
  // Two thirds of the lock's time, so that the client still has some for its work.
  progress.keyDeadline = std::chrono::steady_clock::now() +
                         std::max(shared_.limits.keyTimeout, std::chrono::milliseconds(int64_t{lock} * 2 / 3));
  // Larger than asked for where need be: a record that is not given counts as a try, and is given up after five.
  progress.mayEndEarly = false;
  progress.workLimit = 4 * shared_.limits.workOfResponse;
  progress.room = most - static_cast<int64_t>(frameSize);
  auto reserving = ReserveForOpening(arena, frameSize, most);
  (void)co_await std::move(reserving);
  opener_.Begin();
  Opened opened;
  io::Turn turn(loop_);
  for (ShareFetchResponse::Topic& topic : response.responses) {
    co_await scratch_.searchPace.Pause(connection_.workload.share, turn, shared_.searchesWaitedAt);
    if (std::none_of(topic.partitions.begin(), topic.partitions.end(), HasRecords<ShareFetchResponse::Partition>)) {
      continue;
    }
    opened.hadRecords = true;
    const ReadAccess access = AccessTo(topic.topicId, *policies, claims);
    if (access.name.has_value() && access.policy == nullptr) continue;
    for (ShareFetchResponse::Partition& partition : topic.partitions) {
      auto guarding = GuardPartition(access, progress, partition, arena);
      const bool rewritten = co_await std::move(guarding);
      opened.changed = opened.changed || rewritten;
    }
  }
  arena.ReturnRest();
  co_return opened;
}

// Returns whether the partition was changed.
io::Task<bool> ShareGuard::GuardPartition(const ReadAccess& access, RecordsOpener::Response& progress,
                                          ShareFetchResponse::Partition& partition, proxy::Arena& arena) {
  if (!HasRecords(partition)) co_return false;
  if (access.error != ErrorCode::kNone) {
    // The policy changed while the request was at the broker.
    CountRefused(shared_.metrics, connection_, observe::RefuseReason::kDenied, 1);
    partition.errorCode = access.error;
    partition.records = Bytes();
    partition.acquiredRecords.clear();
    co_return true;
  }
  RecordsOpener::Partition task;
  task.records = *partition.records;
  task.index = partition.partitionIndex;
  task.topicName = *access.name;
  task.topic = access.policy;
  task.masking.erased = true;
  task.masking.plaintext = true;
  task.masking.denied = true;
  task.masking.needed = true;
  if (access.readers.has_value()) task.readers = &*access.readers;
  task.entry = access.entry;
  auto opening = opener_.Open(task, progress, arena);
  RecordsOpener::Result result = co_await std::move(opening);
  if (!result.missing.empty()) NoteOutage(access, std::move(result.missing));
  if (!result.changed) co_return false;
  partition.records = result.records;
  if (result.endOffset.has_value()) Withhold(*result.endOffset, partition.acquiredRecords);
  progress.delivered = progress.delivered || !result.records.empty();
  co_return true;
}

}  // namespace kveil::guard
