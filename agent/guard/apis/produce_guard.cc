#include "guard/apis/produce_guard.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/learn/advertised_brokers.h"
#include "guard/seal/produced_batch.h"
#include "guard/state/count_refused.h"
#include "io/turn.h"
#include "proxy/owed_memory.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;
using observe::RefuseReason;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// A request of few bytes may hold many batches that each decompress to much: all of them together to no more than this
// many times what one may.
constexpr size_t kMostBatchesOfARequest = 4;
// What sealing makes of a batch is seldom more than this many times as large; small records grow most.
constexpr size_t kUsualGrowth = 2;

size_t PartitionsOf(const ProduceRequest& request) {
  size_t partitions = 0;
  for (const ProduceRequest::Topic& topic : request.topicData) partitions += topic.partitionData.size();
  return partitions;
}

size_t RecordBytes(const ProduceRequest& request) {
  size_t bytes = 0;
  for (const ProduceRequest::Topic& topic : request.topicData) {
    for (const ProduceRequest::Partition& partition : topic.partitionData) {
      bytes += partition.records.value_or(Bytes()).size();
    }
  }
  return bytes;
}

absl::Status CheckTopicNames(const ProduceRequest& request) {
  for (const ProduceRequest::Topic& topic : request.topicData)
    RETURN_IF_ERROR(CheckTopicName("Produce to", topic.name));
  return absl::OkStatus();
}

}  // namespace

io::Task<RequestVerdict> ProduceGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                                 proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  Decoded<ProduceRequest> decoded(request, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  if (const absl::Status checked = CheckTopicNames(*decoded); !checked.ok()) {
    co_return RequestVerdict::Close(std::string(checked.message()));
  }
  std::shared_ptr<const identity::Claims> claims = ClaimsOf(request);
  if (version >= ProduceRequest::kFirstVersionWithTopicIds) {
    std::vector<kafka::TopicId> ids;
    for (const ProduceRequest::Topic& topic : decoded->topicData) ids.push_back(topic.topicId);
    auto learning = lookup_.Learn(std::move(ids), upstream);
    co_await std::move(learning);
  }
  auto state = std::make_unique<ProduceState>(shared_.splits);
  const bool answered = decoded->acks != 0;
  ProduceJob job{.version = version,
                 .isAnswered = answered,
                 .policies = shared_.policies.Current(),
                 .claims = std::move(claims),
                 .upstream = upstream,
                 .arena = output.arena,
                 .deadline = std::chrono::steady_clock::now() + shared_.limits.keyTimeout,
                 .room = kMostBatchesOfARequest * shared_.limits.batchSize};
  auto sealing = SealTopics(*decoded, job, *state);
  const Changed changed = co_await std::move(sealing);
  if (!state->refused().empty()) Report(state->refused());
  if (changed == Changed::kTooMuch) {
    co_return RequestVerdict::Close(StrCat("a Produce request of which the answer to ", state->refused().size(),
                                           " refused partitions would have to be remembered"));
  }
  // Without acknowledgements there is no answer to put an error in: as a broker does, the connection is closed.
  if (!state->refused().empty() && !answered) {
    co_return RequestVerdict::Close("a record of a Produce request with acks=0 was refused");
  }
  if (!orderIsLost_ && !state->split().empty()) {
    auto sending = SendAhead(*decoded, request.header, job, state->split());
    const absl::Status sent = co_await std::move(sending);
    if (!sent.ok()) co_return RequestVerdict::Close(std::string(sent.message()));
  }
  // The producer sends all that was not answered again, from the first batch on.
  if (orderIsLost_) {
    shared_.NotRemembered();
    co_return RequestVerdict::Close("more refused batches of idempotent producers than are remembered");
  }
  co_return Forward(request, *decoded, changed == Changed::kYes, std::move(state), output);
}

// `decoded` is what is left of the request, and may be nothing: the broker has its say about that too, and its quotas
// count.
RequestVerdict ProduceGuard::Forward(const proxy::RequestFrame& request, const ProduceRequest& decoded, bool isChanged,
                                     std::unique_ptr<ProduceState> state, proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  const bool answered = decoded.acks != 0;
  // What went in parts the broker has answered already.
  if (answered && decoded.topicData.empty() && !state->split().empty()) {
    ProduceResponse response;
    state->Complete(response);
    return AnswerRequest(request, response, version, output);
  }
  RequestVerdict verdict = isChanged ? RewriteRequest(request, decoded, output) : RequestVerdict::Forward();
  if (!answered) return std::move(verdict).NoResponse();
  state->SetForwarded(PartitionsOf(decoded));
  if (!state->empty() || version >= ProduceResponse::kFirstVersionWithNodeEndpoints) {
    return std::move(verdict).WantResponse(std::move(state));
  }
  return verdict;
}

// Seals what is protected and takes out what is refused, so that the request is what may be forwarded.
io::Task<ProduceGuard::Changed> ProduceGuard::SealTopics(ProduceRequest& request, ProduceJob& job,
                                                         ProduceState& state) {
  Changed changed = Changed::kNo;
  auto learning = LearnLimits(request, job);
  co_await std::move(learning);
  bool isReserved = false;
  io::Turn turn(loop_);
  for (ProduceRequest::Topic& topic : request.topicData) {
    co_await scratch_.searchPace.Pause(connection_.workload.share, turn, shared_.searchesWaitedAt);
    const ProducedTopic known = StateOf(topic, job);
    if (known.isUnselected && !known.isRefused) NoteUnselected(*known.name);
    const bool isLeftAlone = known.name.has_value() && known.policy == nullptr && !known.isRefused;
    if (isLeftAlone && shared_.refusals.empty()) continue;
    // Waited for once, where nothing is held that somebody else may be waiting for.
    if (!isReserved && known.sealedBy != nullptr) {
      auto reserving = job.arena.Reserve(kUsualGrowth * RecordBytes(request));
      isReserved = true;
      (void)co_await std::move(reserving);
    }
    const size_t partitions = topic.partitionData.size();
    auto sealing = SealTopic(known, job, turn, topic, state);
    const bool isRemembered = co_await std::move(sealing);
    if (!isRemembered) {
      job.arena.ReturnRest();
      co_return Changed::kTooMuch;
    }
    if (known.sealedBy != nullptr || topic.partitionData.size() != partitions) changed = Changed::kYes;
  }
  job.arena.ReturnRest();
  std::erase_if(request.topicData, [](const ProduceRequest::Topic& topic) { return topic.partitionData.empty(); });
  co_return changed;
}

// The same for one topic. False when more than allowed would have to be remembered until the answer.
io::Task<bool> ProduceGuard::SealTopic(const ProducedTopic& known, ProduceJob& job, io::Turn& turn,
                                       ProduceRequest::Topic& topic, ProduceState& state) {
  std::vector<ProduceRequest::Partition> forwarded;
  forwarded.reserve(topic.partitionData.size());
  for (ProduceRequest::Partition& partition : topic.partitionData) {
    if (state.added() > proxy::OwedMemory::kMost) co_return false;
    co_await turn.Pause();
    PartitionSealer::Sealed sealed;
    auto sealing = SealPartition(known, job, partition, sealed);
    std::optional<Refusal> refusal = co_await std::move(sealing);
    const auto address = [&topic, index = partition.index] {
      return PartitionAddress{.topic = std::string(topic.name), .topicId = topic.topicId, .partition = index};
    };
    if (sealed.takenAt.has_value()) {
      state.AddTaken(address(), *sealed.takenAt);
      continue;
    }
    if (refusal.has_value()) {
      state.AddRefused(topic, known.name.value_or(""), partition.index, *std::move(refusal));
      continue;
    }
    forwarded.push_back(std::move(partition));
    if (sealed.parts.size() > 1 || sealed.unknownLimit.has_value()) {
      state.AddSplit({.address = address(),
                      .parts = std::move(sealed.parts),
                      .id = std::move(sealed.id),
                      .unknownLimit = std::move(sealed.unknownLimit)});
    }
  }
  topic.partitionData = std::move(forwarded);
  co_return true;
}

// Of the topics with batches that may be large.
io::Task<void> ProduceGuard::LearnLimits(const ProduceRequest& request, const ProduceJob& job) {
  absl::flat_hash_set<std::string> names;
  io::Turn turn(loop_);
  for (const ProduceRequest::Topic& topic : request.topicData) {
    if (names.size() == LimitLookup::kMostAskedAtOnce) break;
    co_await scratch_.searchPace.Pause(connection_.workload.share, turn, shared_.searchesWaitedAt);
    const bool isLarge = std::any_of(topic.partitionData.begin(), topic.partitionData.end(), [](const auto& partition) {
      return PartitionSealer::MayBeLarge(partition.records.value_or(Bytes()), kMostGrowthOfUsers);
    });
    if (!isLarge) continue;
    ProducedTopic known = StateOf(topic, job);
    if (known.sealedBy == nullptr) continue;
    if (sealer_.limits().Knows(*known.name)) continue;
    names.insert(*std::move(known.name));
  }
  auto learning = sealer_.limits().Learn({names.begin(), names.end()}, job.upstream);
  co_await std::move(learning);
}

// Sends what has to be there before the request, and takes out of it what the broker did not take, or all of.
io::Task<absl::Status> ProduceGuard::SendAhead(ProduceRequest& request, const kafka::RequestHeader& header,
                                               ProduceJob& job, SplitBatches& split) {
  bool isMore = true;
  while (isMore) {
    auto sending = split.SendAhead(request, header, job.upstream);
    const absl::Status sent = co_await std::move(sending);
    if (!sent.ok()) co_return sent;
    auto cutting = sealer_.CutSmaller(split, job);
    isMore = co_await std::move(cutting);
  }
  split.Settle(request);
  for (const SplitBatches::Batch& batch : split.batches()) {
    HearOf(batch);
    if (batch.failed() && request.acks == 0) {
      co_return absl::FailedPreconditionError("the broker refused a batch of a Produce request with acks=0");
    }
  }
  co_return absl::OkStatus();
}

// What the broker made of a batch, as far as it went ahead.
void ProduceGuard::HearOf(const SplitBatches::Batch& batch) {
  if (batch.failed()) {
    RememberRefusal(batch.id, ErrorCode::kNotEnoughReplicas);
  } else if (batch.unknownLimit.has_value()) {
    sealer_.limits().Took(batch.unknownLimit->topic, batch.largestPart());
  }
}

ProducedTopic ProduceGuard::StateOf(const ProduceRequest::Topic& topic, const ProduceJob& job) const {
  ProducedTopic state;
  if (job.version < ProduceRequest::kFirstVersionWithTopicIds) {
    state.wireName = std::string(topic.name);
    state.name = state.wireName;
  } else {
    state.wireName = topic.topicId.Text();
    state.name = shared_.topicNames.Find(topic.topicId, connection_);
  }
  std::chrono::nanoseconds searched{};
  const policy::TopicPolicy* const policy =
      state.name.has_value() ? job.policies->Find(*state.name, &searched) : nullptr;
  scratch_.searchPace.Charge(connection_.workload.share, searched);
  state.policy = policy;
  if (policy != nullptr) {
    policy::EntrySet writers;
    const policy::Readable writable = policy::WritableBy(*policy, connection_.workload, writers, *job.claims);
    state.isDenied = writable == policy::Readable::kNothing;
    if (writable == policy::Readable::kSome) state.writers = writers;
    if (writable == policy::Readable::kEverything && policy->write.has_value()) {
      state.entry = policy::EntryForAll(*policy->write, connection_.workload, *job.claims);
    }
    if (policy->seal.has_value() && !state.isDenied) state.sealedBy = policy;
  }
  state.isUnselected = state.name.has_value() && policy == nullptr && !policy::IsInternal(*state.name);
  state.isRefused = state.isUnselected && job.policies->RefusesUnselected(*state.name);
  return state;
}

io::Task<std::optional<Refusal>> ProduceGuard::SealPartition(const ProducedTopic& topic, ProduceJob& job,
                                                             ProduceRequest::Partition& partition,
                                                             PartitionSealer::Sealed& sealed) {
  if (!partition.records.has_value() || partition.records->empty() || orderIsLost_) co_return std::nullopt;
  if (std::optional<Refusal> before = RefusedBefore(topic, partition); before.has_value()) co_return before;
  std::optional<Refusal> refusal;
  if (!topic.name.has_value()) {
    // The broker could not name it either: the client asks for the topic's metadata again.
    refusal = Refuse(ErrorCode::kUnknownTopicId, RefuseReason::kOther, "kveil: a topic id that the broker cannot name",
                     RecordCount(*partition.records));
  } else if (topic.isRefused) {
    refusal = Refuse(ErrorCode::kTopicAuthorizationFailed, RefuseReason::kUnselected,
                     "kveil: no policy selects this topic", RecordCount(*partition.records));
  } else if (topic.isDenied) {
    refusal = Refuse(ErrorCode::kTopicAuthorizationFailed, RefuseReason::kDenied,
                     "kveil: no entry of \"write\" fits the workload", RecordCount(*partition.records));
  } else if (topic.sealedBy != nullptr) {
    const size_t buffers = job.arena.bufferCount();
    auto sealing = sealer_.Seal(topic, job, partition, sealed);
    refusal = co_await std::move(sealing);
    job.arena.CountGrowth();
    if (refusal.has_value() && job.arena.bufferCount() > buffers) job.arena.DropNewest();
  } else if (topic.isUnsealed()) {
    refusal = CheckUnsealed(*partition.records, std::min(shared_.limits.batchSize, job.room), scratch_);
    job.room -= std::min(job.room, scratch_.decompressedBytes);
  }
  if (refusal.has_value()) {
    RememberRefusal(sealer_.IdOf(topic, partition), refusal->code);
    // Its header may claim any number.
    TellAudit(topic, std::min<uint64_t>(refusal->recordCount, partition.records->size()));
  }
  co_return refusal;
}

void ProduceGuard::TellAudit(const ProducedTopic& topic, uint64_t refused) {
  if (!topic.name.has_value()) return;
  const Audited audited = AuditedOf(topic, connection_);
  if (topic.isRefused || topic.isDenied) return TellAuditOfDenial(scratch_, audited, refused);
  AuditCounts none;
  guard::TellAudit(scratch_, audited, {.refused = refused}, none);
}

std::optional<Refusal> ProduceGuard::RefusedBefore(const ProducedTopic& topic,
                                                   const ProduceRequest::Partition& partition) {
  if (shared_.refusals.empty()) return std::nullopt;
  const std::optional<SplitMemory::BatchId> id = sealer_.IdOf(topic, partition);
  if (!id.has_value()) return std::nullopt;
  const std::optional<ErrorCode> code =
      shared_.refusals.Check(id->producer, id->baseSequence, RefusalMemory::Clock::now());
  if (!code.has_value()) return std::nullopt;
  return Refuse(*code, RefuseReason::kOutOfOrder,
                "kveil: an earlier batch of this producer was refused and has to come first",
                RecordCount(*partition.records));
}

void ProduceGuard::RememberRefusal(const std::optional<SplitMemory::BatchId>& id, ErrorCode code) {
  // Of a producer that is out of sequence the broker has something, and watches over the order itself.
  if (!id.has_value() || code == ErrorCode::kOutOfOrderSequenceNumber) return;
  // The batches behind one that has to be split are none of them too large: they only have to wait.
  if (code == ErrorCode::kMessageTooLarge) code = ErrorCode::kNotEnoughReplicas;
  const bool isRemembered =
      shared_.refusals.Remember(id->producer, id->baseSequence, code, RefusalMemory::Clock::now());
  if (!isRemembered) orderIsLost_ = true;
}

void ProduceGuard::NoteUnselected(const std::string& topic) {
  const bool isOfInterest =
      shared_.unselectedWrites.NoteWrite(connection_.workload.share, topic, UnselectedWrites::Clock::now());
  if (isOfInterest) shared_.metrics.UnselectedWrites(1);
}

// One line per request: a request may be refused in as many partitions as fit into it.
void ProduceGuard::Report(const std::vector<ProduceState::Refused>& refused) const {
  for (const ProduceState::Refused& one : refused) {
    CountRefused(shared_.metrics, connection_, one.refusal.reason, one.refusal.recordCount);
  }
  const ProduceState::Refused& first = refused.front();
  const std::vector<Refusal::Record>& records = first.refusal.records;
  log::Warning("produce.refused",
               {{"connection", connection_.id},
                {"share", connection_.workload.share},
                {"topic", first.topic->text()},
                {"partition", first.partition},
                {"partitions", refused.size()},
                {"code", kafka::ErrorName(first.refusal.code)},
                {"records", first.refusal.recordCount},
                {"reason", first.refusal.message},
                {"firstRecord", records.empty() ? "-" : StrCat(records[0].index, ": ", records[0].message)}});
}

io::Task<ResponseVerdict> ProduceGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                   proxy::FrameOutput& output) {
  Decoded<ProduceResponse> decoded(response, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  auto learning = LearnBrokers(shared_.brokers, loop_, connection_, *decoded);
  const bool leftOut = co_await std::move(learning);
  auto& ours = static_cast<ProduceState&>(*state);
  if (ours.empty() && !leftOut) co_return ResponseVerdict::Forward();
  if (!ours.empty()) {
    const absl::Status checked = CheckAnswer(*decoded, ours.forwarded());
    if (!checked.ok()) co_return ResponseVerdict::Close(std::string(checked.message()));
    ours.Complete(*decoded);
  }
  co_return RewriteResponse(response, *decoded, output);
}

}  // namespace kveil::guard
