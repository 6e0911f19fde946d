#include "guard/produce_guard.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/log.h"
#include "base/text.h"
#include "guard/advertised_brokers.h"
#include "guard/decoded.h"
#include "guard/key_wait.h"
#include "guard/message_output.h"
#include "io/turn.h"
#include "kafka/record_batch.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;
using observe::RefuseReason;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

// From here on a response may name a broker that the client does not know (KIP-951).
constexpr int16_t kFirstVersionWithNodeEndpoints = 10;
constexpr int16_t kFirstVersionWithTopicIds = 13;
constexpr int16_t kFirstVersionWithZstd = 7;
constexpr size_t kLongestTopicName = 249;  // Kafka's own limit
// A request of few bytes may hold many batches that each decompress to much: all of them together to no more than this
// many times what one may.
constexpr size_t kMostBatchesOfARequest = 4;
// What sealing makes of a batch is seldom more than this many times as large; small records grow most.
constexpr size_t kUsualGrowth = 2;
// Nobody lowers a topic's limit to less than this, so that for topics of small batches nothing has to be asked.
constexpr size_t kAskForLimitAbove = 4 << 10;
// A batch is not refused for a limit that was learned longer ago than this.
constexpr std::chrono::seconds kBelieveLimitFor{5};

std::optional<kafka::BatchHeader> FirstBatchHeader(Bytes records) {
  kafka::BatchReader reader(records);
  kafka::BatchView batch;
  if (reader.Next(batch) != kafka::BatchReader::Result::kBatch || batch.isLegacy()) return std::nullopt;
  return batch.header;
}

uint64_t RecordCount(const ProduceRequest::Partition& partition) {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(partition.records.value_or(Bytes()));
  return header.has_value() && header->count > 0 ? static_cast<uint64_t>(header->count) : 1;
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

size_t Largest(const std::vector<SealedPart>& parts) {
  size_t largest = 0;
  for (const SealedPart& part : parts) largest = std::max(largest, part.size);
  return largest;
}

// Whether it may be too large for its topic when it is sealed: by the bound that decides whether it is cut, without
// decompressing it.
bool MayBeLarge(Bytes records) {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(records);
  if (!header.has_value()) return false;
  if (header->codec() != kafka::Codec::kNone) return true;
  return records.size() + static_cast<size_t>(std::max(header->count, 0)) * kMostGrowth > kAskForLimitAbove;
}

// What is known counts only for batches that it was asked for: others stay whole, known or not.
void UseLimit(const TopicLimits::Limit& limit, SealTask& task) {
  if (!MayBeLarge(task.records)) return;
  task.topicLimit = limit.bytes;
  task.limitIsCertain = limit.isCertain;
}

}  // namespace

struct ProduceGuard::State : proxy::RequestState {
  explicit State(SplitMemory& memory) : split(memory) {}

  std::vector<Refused> refused;
  SplitBatches split;

  bool empty() const { return refused.empty() && split.empty(); }

  size_t bytes() const override {
    size_t bytes = sizeof(*this) + split.bytes();
    for (const Refused& entry : refused) {
      bytes += sizeof(entry) + entry.address.topic.size() + entry.name.size() + entry.refusal.bytes();
    }
    return bytes;
  }

  // Makes the broker's answer to what was forwarded one to the request. The answer then refers to this.
  void Complete(ProduceResponse& response) {
    ProduceAnswer answer(response);
    split.Complete(answer);
    for (const Refused& entry : refused) answer.Add(entry.address, entry.refusal);
  }
};

io::Task<RequestVerdict> ProduceGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                                 proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  if (!ProduceRequest::kVersions.Contains(version)) {
    shared_.metrics.RecordsRefused(RefuseReason::kUnsupportedVersion, 1);
    co_return RequestVerdict::Close(StrCat("Produce version ", version, ", which the agent cannot read"));
  }
  Decoded<ProduceRequest> decoded(request.body, version, output.arena.budget());
  if (!decoded.ok()) {
    shared_.metrics.RecordsRefused(RefuseReason::kMalformed, 1);
    co_return RequestVerdict::Close(std::string(decoded.status().message()));
  }
  // No broker has such a topic, and what is remembered of each partition holds its name.
  for (const ProduceRequest::Topic& topic : decoded->topicData) {
    if (topic.name.size() > kLongestTopicName) {
      co_return RequestVerdict::Close(StrCat("Produce to a topic with a name of ", topic.name.size(), " bytes"));
    }
  }
  if (version >= kFirstVersionWithTopicIds) {
    std::vector<kafka::TopicId> ids;
    for (const ProduceRequest::Topic& topic : decoded->topicData) ids.push_back(topic.topicId);
    auto learning = lookup_.Learn(std::move(ids), upstream);
    co_await std::move(learning);
  }
  auto state = std::make_unique<State>(shared_.splits);
  auto sealing = SealTopics(*decoded, version, upstream, output.arena, *state);
  const Changed changed = co_await std::move(sealing);
  if (!state->refused.empty()) Report(state->refused);
  const bool answered = decoded->acks != 0;
  // Without acknowledgements there is no answer to put an error in: as a broker does, the connection is closed.
  if (!state->refused.empty() && !answered) {
    co_return RequestVerdict::Close("a record of a Produce request with acks=0 was refused");
  }
  if (!orderIsLost_ && !state->split.empty()) {
    auto sending = SendAhead(*decoded, request.header, upstream, state->split);
    const absl::Status sent = co_await std::move(sending);
    if (!sent.ok()) co_return RequestVerdict::Close(std::string(sent.message()));
  }
  // The producer sends all that was not answered again, from the first batch on.
  if (orderIsLost_) {
    shared_.NotRemembered();
    co_return RequestVerdict::Close("more refused batches of idempotent producers than are remembered");
  }
  // What went in parts the broker has answered already.
  if (answered && decoded->topicData.empty() && !state->split.empty()) {
    ProduceResponse response;
    state->Complete(response);
    co_return AnswerRequest(request, response, version, output);
  }
  // Also where nothing is left of it: the broker has its say about the request, and its quotas count.
  RequestVerdict verdict =
      changed == Changed::kYes ? RewriteRequest(request, *decoded, output) : RequestVerdict::Forward();
  if (!answered) co_return std::move(verdict).NoResponse();
  if (!state->empty() || version >= kFirstVersionWithNodeEndpoints) {
    co_return std::move(verdict).WantResponse(std::move(state));
  }
  co_return verdict;
}

// Seals what is protected and takes out what is refused, so that the request is what may be forwarded.
io::Task<ProduceGuard::Changed> ProduceGuard::SealTopics(ProduceRequest& request, int16_t version,
                                                         proxy::Upstream& upstream, proxy::Arena& arena, State& state) {
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  Limits limits;  // of the whole request
  limits.deadline = std::chrono::steady_clock::now() + shared_.limits.keyTimeout;
  limits.room = kMostBatchesOfARequest * shared_.limits.batchSize;
  limits.answered = request.acks != 0;
  Changed changed = Changed::kNo;
  auto learning = limits_.Learn(TopicsWithoutLimit(request, version, *policies), upstream);
  co_await std::move(learning);
  bool isReserved = false;
  io::Turn turn(loop_);
  for (ProduceRequest::Topic& topic : request.topicData) {
    const TopicState known = StateOf(topic, version, *policies);
    if (known.isUnselected && !known.isRefused) NoteUnselected(*known.name);
    if (known.name.has_value() && known.sealedBy == nullptr && !known.isRefused && shared_.refusals.empty()) continue;
    // Waited for once, where nothing is held that somebody else may be waiting for.
    if (!isReserved) {
      auto reserving = arena.Reserve(kUsualGrowth * RecordBytes(request));
      isReserved = true;
      (void)co_await std::move(reserving);
    }
    std::vector<ProduceRequest::Partition> forwarded;
    forwarded.reserve(topic.partitionData.size());
    for (ProduceRequest::Partition& partition : topic.partitionData) {
      co_await turn.Pause();
      Sealed sealed;
      auto sealing = SealPartition(known, version, limits, partition, upstream, arena, sealed);
      std::optional<Refusal> refusal = co_await std::move(sealing);
      PartitionAddress address;
      address.topic = std::string(topic.name);
      address.topicId = topic.topicId;
      address.partition = partition.index;
      if (sealed.takenAt.has_value()) {
        state.split.AddTaken(std::move(address), *sealed.takenAt);
        continue;
      }
      if (!refusal.has_value()) {
        forwarded.push_back(std::move(partition));
        if (sealed.parts.size() > 1 || sealed.unknownLimit.has_value()) {
          state.split.Add({.address = std::move(address),
                           .parts = std::move(sealed.parts),
                           .id = std::move(sealed.id),
                           .unknownLimit = std::move(sealed.unknownLimit)});
        }
        continue;
      }
      Refused& entry = state.refused.emplace_back();
      entry.address = std::move(address);
      entry.name = known.name.value_or("");
      entry.refusal = *std::move(refusal);
    }
    if (known.sealedBy != nullptr || forwarded.size() != topic.partitionData.size()) changed = Changed::kYes;
    topic.partitionData = std::move(forwarded);
  }
  arena.ReturnRest();
  std::erase_if(request.topicData, [](const ProduceRequest::Topic& topic) { return topic.partitionData.empty(); });
  co_return changed;
}

// The topics with batches that may be large whose limits are not known.
std::vector<std::string> ProduceGuard::TopicsWithoutLimit(const ProduceRequest& request, int16_t version,
                                                          const policy::Policy& policies) const {
  absl::flat_hash_set<std::string> names;
  for (const ProduceRequest::Topic& topic : request.topicData) {
    const bool isLarge = std::any_of(topic.partitionData.begin(), topic.partitionData.end(), [](const auto& partition) {
      return MayBeLarge(partition.records.value_or(Bytes()));
    });
    if (!isLarge) continue;
    TopicState known = StateOf(topic, version, policies);
    if (known.sealedBy == nullptr) continue;
    if (limits_.Knows(*known.name)) continue;
    names.insert(*std::move(known.name));
  }
  return std::vector<std::string>(names.begin(), names.end());
}

// Sends what has to be there before the request, and takes out of it what the broker did not take, or all of.
io::Task<absl::Status> ProduceGuard::SendAhead(ProduceRequest& request, const kafka::RequestHeader& header,
                                               proxy::Upstream& upstream, SplitBatches& split) {
  auto sending = split.SendAhead(request, header, upstream);
  const absl::Status sent = co_await std::move(sending);
  if (!sent.ok()) co_return sent;
  for (SplitBatches::Batch& batch : split.batches()) {
    HearOf(batch);
    if (batch.failed() && request.acks == 0) {
      co_return absl::FailedPreconditionError("the broker refused a batch of a Produce request with acks=0");
    }
  }
  co_return absl::OkStatus();
}

// What the broker made of a batch, as far as it went ahead.
void ProduceGuard::HearOf(SplitBatches::Batch& batch) {
  if (batch.unknownLimit.has_value()) {
    const SplitBatches::UnknownLimit& limit = *batch.unknownLimit;
    if (!batch.failed()) {
      limits_.Took(limit.topic, batch.largestPart());
    } else if (batch.refusal.code == ErrorCode::kMessageTooLarge && limit.isAssumed) {
      limits_.Refused(limit.topic);
      // When the producer sends it again, it goes in parts that are no larger than it came.
      batch.refusal.code = ErrorCode::kNotEnoughReplicas;
    }
  }
  if (batch.failed()) RememberRefusal(batch.id, ErrorCode::kNotEnoughReplicas);
}

ProduceGuard::TopicState ProduceGuard::StateOf(const ProduceRequest::Topic& topic, int16_t version,
                                               const policy::Policy& policies) const {
  TopicState state;
  if (version < kFirstVersionWithTopicIds) {
    state.wireName = std::string(topic.name);
    state.name = state.wireName;
  } else {
    state.wireName = topic.topicId.Text();
    state.name = shared_.topicNames.Find(topic.topicId, connection_);
  }
  const policy::TopicPolicy* const policy = state.name.has_value() ? policies.Find(*state.name) : nullptr;
  if (policy != nullptr && policy->seal.has_value()) state.sealedBy = policy;
  state.isUnselected = state.name.has_value() && policy == nullptr && !policy::IsInternal(*state.name);
  state.isRefused = state.isUnselected && policies.RefusesUnselected(*state.name);
  return state;
}

io::Task<std::optional<Refusal>> ProduceGuard::SealPartition(const TopicState& topic, int16_t version, Limits& limits,
                                                             ProduceRequest::Partition& partition,
                                                             proxy::Upstream& upstream, proxy::Arena& arena,
                                                             Sealed& sealed) {
  if (!partition.records.has_value() || partition.records->empty() || orderIsLost_) co_return std::nullopt;
  if (std::optional<Refusal> before = RefusedBefore(topic, partition); before.has_value()) co_return before;
  std::optional<Refusal> refusal;
  if (!topic.name.has_value()) {
    // The broker could not name it either: the client asks for the topic's metadata again.
    refusal = Refuse(ErrorCode::kUnknownTopicId, RefuseReason::kOther, "kveil: a topic id that the broker cannot name",
                     RecordCount(partition));
  } else if (topic.isRefused) {
    refusal = Refuse(ErrorCode::kTopicAuthorizationFailed, RefuseReason::kUnselected,
                     "kveil: no policy selects this topic", RecordCount(partition));
  } else if (topic.sealedBy != nullptr) {
    const size_t buffers = arena.bufferCount();
    auto sealing = SealRecords(topic, version, limits, partition, upstream, arena, sealed);
    refusal = co_await std::move(sealing);
    arena.CountGrowth();
    if (refusal.has_value() && arena.bufferCount() > buffers) arena.DropNewest();
  }
  if (refusal.has_value()) RememberRefusal(IdOf(topic, partition), refusal->code);
  co_return refusal;
}

io::Task<std::optional<Refusal>> ProduceGuard::SealRecords(const TopicState& topic, int16_t version, Limits& limits,
                                                           ProduceRequest::Partition& partition,
                                                           proxy::Upstream& upstream, proxy::Arena& arena,
                                                           Sealed& sealed) {
  SealTask task;
  task.topic = topic.sealedBy;
  task.topicName = *topic.name;
  task.cluster = connection_.cluster;
  task.records = *partition.records;
  task.zstdAllowed = version >= kFirstVersionWithZstd;
  UseLimit(limits_.Of(task.topicName), task);
  task.batchLimit = std::min(shared_.limits.batchSize, limits.room);
  task.usersLimit = shared_.limits.batchUsers;
  std::optional<SplitMemory::Split> before;
  if (!shared_.splits.empty() && limits.answered) sealed.id = IdOf(topic, partition);
  if (sealed.id.has_value()) before = shared_.splits.Find(*sealed.id, SplitMemory::Clock::now());
  if (before.has_value()) {
    // The producer has to begin a new epoch, as it has for what the broker finds out of order.
    if (before->isAnothers) {
      co_return Refuse(ErrorCode::kOutOfOrderSequenceNumber, RefuseReason::kOutOfOrder,
                       "kveil: another batch with this sequence number failed, and a part of it may be in the log",
                       RecordCount(partition));
    }
    if (before->isTaken) {
      sealed.takenAt = before->baseOffset;
      co_return std::nullopt;
    }
    task.partSize = before->partSize;
  }
  if (!arena.TryReserve(task.records.size())) {
    co_return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kOther, "kveil: there is no memory for it now",
                     RecordCount(partition));
  }
  ByteBuffer& bytes = arena.NewBuffer(task.records.size());
  SealOutcome outcome;
  size_t worked = 0;
  for (;;) {
    outcome = SealBatch(task, scratch_, bytes);
    // Whatever becomes of it, it was work.
    if (worked == 0) {
      worked = scratch_.decompressedBytes;
      limits.room -= std::min(limits.room, worked);
    }
    if (outcome.kind == SealOutcome::Kind::kRefused) co_return std::move(outcome.refusal);
    if (outcome.kind == SealOutcome::Kind::kMissingKeys) {
      shared_.metrics.KeyCacheMisses(outcome.misses.scopes.size());
      if (std::chrono::steady_clock::now() > limits.deadline) {
        co_return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kKeysUnavailable,
                         "kveil: the keys cannot be reached now", RecordCount(partition));
      }
      auto fetching = FetchKeys(loop_, scratch_.keyCache, scratch_.keyRoom, connection_.workload,
                                std::move(outcome.misses), limits.deadline);
      (void)co_await std::move(fetching);  // what could not be had is missing again
      continue;
    }
    const size_t largest = Largest(outcome.parts);
    const TopicLimits::Limit limit = limits_.Of(task.topicName);
    if (largest <= limit.bytes || !limit.isCertain) break;
    auto learning = LearnGreaterLimit(*topic.name, limit.bytes, upstream);
    const bool isGreater = co_await std::move(learning);
    // What the broker would refuse is refused here: the broker takes any first sequence from a producer that it does
    // not know, so a smaller batch behind this one would get in before it, and its parts could not follow any more.
    if (!isGreater) {
      co_return Refuse(ErrorCode::kMessageTooLarge, RefuseReason::kTooLarge,
                       StrCat("kveil: sealed, the batch has ", largest, " bytes, and the topic's max.message.bytes is ",
                              limit.bytes),
                       RecordCount(partition));
    }
    UseLimit(limits_.Of(task.topicName), task);
    bytes.clear();
  }
  Count(outcome);
  limits.room -= std::min(limits.room, bytes.size() - std::min(bytes.size(), worked));
  co_return Keep(topic, task, outcome, bytes, partition, sealed);
}

// Notes how a batch is sent that was sealed into `bytes`, and puts what goes with the request in its place.
std::optional<Refusal> ProduceGuard::Keep(const TopicState& topic, const SealTask& task, const SealOutcome& outcome,
                                          Bytes bytes, ProduceRequest::Partition& partition, Sealed& sealed) {
  for (const SealedPart& part : outcome.parts) {
    sealed.parts.push_back({bytes.first(part.size), part.records});
    bytes = bytes.subspan(part.size);
  }
  const size_t largest = Largest(outcome.parts);
  if (!task.limitIsCertain && largest > kAskForLimitAbove && largest > limits_.Of(*topic.name).proven) {
    sealed.unknownLimit = {.topic = *topic.name, .isAssumed = task.topicLimit > 0};
  }
  const bool isSplit = sealed.parts.size() > 1;
  if (isSplit || sealed.unknownLimit.has_value()) {
    if (!sealed.id.has_value()) sealed.id = IdOf(topic, partition);
    if (isSplit && sealed.id.has_value() &&
        !shared_.splits.Remember(*sealed.id, outcome.partSize, SplitMemory::Clock::now())) {
      shared_.NotRemembered();
      return Refuse(ErrorCode::kNotEnoughReplicas, RefuseReason::kOutOfOrder,
                    "kveil: more batches in parts are under way than are remembered", RecordCount(partition));
    }
  }
  partition.records = sealed.parts.back().batch;
  return std::nullopt;
}

// Of an idempotent producer's batch.
std::optional<SplitMemory::BatchId> ProduceGuard::IdOf(const TopicState& topic,
                                                       const ProduceRequest::Partition& partition) const {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(partition.records.value_or(Bytes()));
  if (!header.has_value() || !header->isIdempotent()) return std::nullopt;
  SplitMemory::BatchId id;
  id.producer.producerId = header->producerId;
  id.producer.producerEpoch = header->producerEpoch;
  id.producer.workload = connection_.workload.share;
  id.producer.cluster = connection_.cluster;
  id.producer.topic = topic.wireName;
  id.producer.partition = partition.index;
  id.baseSequence = header->baseSequence;
  id.records = header->count;
  id.crc = header->crc;
  return id;
}

// An operator may have raised it since it was learned.
io::Task<bool> ProduceGuard::LearnGreaterLimit(const std::string& topic, size_t size, proxy::Upstream& upstream) {
  if (TopicLimits::Clock::now() - limits_.Of(topic).learned <= kBelieveLimitFor) co_return false;
  auto learning = limits_.Learn({topic}, upstream);
  co_await std::move(learning);
  co_return limits_.Of(topic).bytes > size;
}

std::optional<Refusal> ProduceGuard::RefusedBefore(const TopicState& topic,
                                                   const ProduceRequest::Partition& partition) {
  if (shared_.refusals.empty()) return std::nullopt;
  const std::optional<SplitMemory::BatchId> id = IdOf(topic, partition);
  if (!id.has_value()) return std::nullopt;
  const std::optional<ErrorCode> code =
      shared_.refusals.Check(id->producer, id->baseSequence, RefusalMemory::Clock::now());
  if (!code.has_value()) return std::nullopt;
  return Refuse(*code, RefuseReason::kOutOfOrder,
                "kveil: an earlier batch of this producer was refused and has to come first", RecordCount(partition));
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

void ProduceGuard::Count(const SealOutcome& outcome) {
  shared_.metrics.RecordsSealed(outcome.sealed);
  if (outcome.afterErasure > 0) shared_.metrics.RecordsAfterErasure(outcome.afterErasure);
  if (outcome.parts.size() > 1) shared_.metrics.BatchesSplit(1);
  shared_.metrics.KeyCacheHits(outcome.keysUsed);
}

// One line a request: a request may be refused in as many partitions as fit into it.
void ProduceGuard::Report(const std::vector<Refused>& refused) const {
  for (const Refused& one : refused) shared_.metrics.RecordsRefused(one.refusal.reason, one.refusal.recordCount);
  const Refused& first = refused.front();
  const std::vector<Refusal::Record>& records = first.refusal.records;
  log::Warning("produce.refused",
               {{"connection", connection_.id},
                {"share", connection_.workload.share},
                {"topic", first.name.empty() ? first.address.topicId.Text() : first.name},
                {"partition", first.address.partition},
                {"partitions", refused.size()},
                {"code", kafka::ErrorName(first.refusal.code)},
                {"records", first.refusal.recordCount},
                {"reason", first.refusal.message},
                {"firstRecord", records.empty() ? "-" : StrCat(records[0].index, ": ", records[0].message)}});
}

io::Task<ResponseVerdict> ProduceGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                   proxy::FrameOutput& output) {
  Decoded<ProduceResponse> decoded(response.body, response.version, output.arena.budget());
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  auto learning = LearnEndpoints(shared_.brokers, loop_, connection_, decoded->nodeEndpoints);
  const bool leftOut = co_await std::move(learning);
  auto& ours = static_cast<State&>(*state);
  if (ours.empty() && !leftOut) co_return ResponseVerdict::Forward();
  ours.Complete(*decoded);
  co_return RewriteResponse(response, *decoded, output);
}

}  // namespace kveil::guard
