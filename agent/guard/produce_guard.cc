#include "guard/produce_guard.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/log.h"
#include "base/text.h"
#include "guard/key_wait.h"
#include "kafka/messages/describe_configs.h"
#include "kafka/record_batch.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;
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
// Batches below this never come near a topic's limit (the Java producer's default is 16 KiB), so that most agents never
// ask for one.
constexpr size_t kAskForLimitAbove = 16 << 10;
// From 2.0 to 4.x every broker has this version.
constexpr int16_t kDescribeConfigsVersion = 1;
constexpr std::string_view kLimitName = "max.message.bytes";
// A batch is not refused for a limit that was learned longer ago than this.
constexpr std::chrono::seconds kBelieveLimitFor{5};

std::optional<size_t> LimitIn(const kafka::DescribeConfigsResponse::Result& result) {
  if (result.errorCode != ErrorCode::kNone) return std::nullopt;
  for (const auto& config : result.configs) {
    uint64_t bytes = 0;
    if (config.name != kLimitName || !config.value.has_value()) continue;
    if (absl::SimpleAtoi(ToAbsl(*config.value), &bytes) && bytes > 0) return bytes;
  }
  return std::nullopt;
}

std::optional<kafka::BatchHeader> FirstBatchHeader(const ProduceRequest::Partition& partition) {
  kafka::BatchReader reader(partition.records.value_or(Bytes()));
  kafka::BatchView batch;
  if (reader.Next(batch) != kafka::BatchReader::Result::kBatch || batch.isLegacy()) return std::nullopt;
  return batch.header;
}

uint64_t RecordCount(const ProduceRequest::Partition& partition) {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(partition);
  return header.has_value() && header->count > 0 ? static_cast<uint64_t>(header->count) : 1;
}

// What the broker would refuse is refused here: the broker takes any first sequence from a producer that it does not
// know, so a smaller batch behind this one would get in before it, and its parts could not follow any more.
Refusal TooLarge(size_t size, size_t limit, const ProduceRequest::Partition& partition) {
  Refusal refusal;
  refusal.code = ErrorCode::kMessageTooLarge;
  refusal.reason = observe::RefuseReason::kTooLarge;
  refusal.message =
      StrCat("kveil: sealed, the batch has ", size, " bytes, and the topic's max.message.bytes is ", limit);
  refusal.recordCount = RecordCount(partition);
  return refusal;
}

}  // namespace

struct ProduceGuard::State : proxy::RequestState {
  std::vector<Refused> refused;

  // Adds the refused partitions to a response, under their topics. The response then refers to this.
  void AddTo(ProduceResponse& response) const {
    for (const Refused& entry : refused) {
      auto topic = std::find_if(response.responses.begin(), response.responses.end(), [&](const auto& candidate) {
        return candidate.name == entry.topic && candidate.topicId == entry.topicId;
      });
      if (topic == response.responses.end()) {
        ProduceResponse::Topic added;
        added.name = entry.topic;
        added.topicId = entry.topicId;
        topic = response.responses.insert(response.responses.end(), std::move(added));
      }
      ProduceResponse::Partition& partition = topic->partitionResponses.emplace_back();
      partition.index = entry.partition;
      partition.errorCode = entry.refusal.code;
      partition.baseOffset = -1;
      if (!entry.refusal.message.empty()) partition.errorMessage = entry.refusal.message;
      for (const Refusal::Record& record : entry.refusal.records) {
        ProduceResponse::RecordError& error = partition.recordErrors.emplace_back();
        error.batchIndex = record.index;
        error.batchIndexErrorMessage = record.message;
      }
    }
  }
};

io::Task<RequestVerdict> ProduceGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream& upstream,
                                                 proxy::FrameOutput& output) {
  const int16_t version = request.header.version;
  if (!ProduceRequest::kVersions.Contains(version)) {
    shared_.metrics.RecordsRefused(observe::RefuseReason::kUnsupportedVersion, 1);
    co_return RequestVerdict::Close(StrCat("Produce version ", version, ", which the agent cannot read"));
  }
  absl::StatusOr<ProduceRequest> decoded = kafka::Decode<ProduceRequest>(request.body, version);
  if (!decoded.ok()) {
    shared_.metrics.RecordsRefused(observe::RefuseReason::kMalformed, 1);
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
  auto state = std::make_unique<State>();
  auto sealing = SealTopics(*decoded, version, upstream, output.arena, state->refused);
  const Changed changed = co_await std::move(sealing);

  const bool answered = decoded->acks != 0;
  if (!state->refused.empty()) {
    Report(state->refused);
    // Without acknowledgements there is no answer to put an error in: as a broker does, the connection is closed.
    if (!answered) co_return RequestVerdict::Close("a record of a Produce request with acks=0 was refused");
    if (decoded->topicData.empty()) {
      ProduceResponse response;
      state->AddTo(response);
      output.writer.BeginFrame();
      kafka::WriteResponseHeader(kafka::ApiKey::kProduce, version, request.header.correlationId, output.writer);
      kafka::Encode(response, version, output.writer);
      output.writer.FinishFrame();
      co_return RequestVerdict::Answer();
    }
  }
  RequestVerdict verdict = RequestVerdict::Forward();
  if (changed == Changed::kYes) {
    output.writer.BeginFrame();
    output.writer.Append(request.frame.first(request.header.size));
    kafka::Encode(*decoded, version, output.writer);
    output.writer.FinishFrame();
    verdict = RequestVerdict::Rewrite();
  }
  if (!answered) co_return std::move(verdict).NoResponse();
  if (!state->refused.empty() || version >= kFirstVersionWithNodeEndpoints) {
    co_return std::move(verdict).WantResponse(std::move(state));
  }
  co_return verdict;
}

// Seals what is protected and takes out what is refused, so that the request is what may be forwarded.
io::Task<ProduceGuard::Changed> ProduceGuard::SealTopics(ProduceRequest& request, int16_t version,
                                                         proxy::Upstream& upstream, proxy::Arena& arena,
                                                         std::vector<Refused>& refused) {
  const std::shared_ptr<const policy::Policy> policies = shared_.policies.Current();
  Limits limits;  // of the whole request
  limits.deadline = std::chrono::steady_clock::now() + shared_.limits.keyTimeout;
  limits.room = kMostBatchesOfARequest * shared_.limits.batchSize;
  Changed changed = Changed::kNo;
  auto learning = LearnLimits(TopicsWithoutLimit(request, version, *policies), upstream);
  co_await std::move(learning);
  for (ProduceRequest::Topic& topic : request.topicData) {
    const TopicState known = StateOf(topic, version, *policies);
    if (known.name.has_value() && known.sealedBy == nullptr && shared_.refusals.empty()) continue;
    std::vector<ProduceRequest::Partition> forwarded;
    forwarded.reserve(topic.partitionData.size());
    for (ProduceRequest::Partition& partition : topic.partitionData) {
      auto sealing = SealPartition(known, version, limits, partition, upstream, arena);
      std::optional<Refusal> refusal = co_await std::move(sealing);
      if (!refusal.has_value()) {
        forwarded.push_back(std::move(partition));
        continue;
      }
      Refused& entry = refused.emplace_back();
      entry.topic = std::string(topic.name);
      entry.topicId = topic.topicId;
      entry.name = known.name.value_or("");
      entry.partition = partition.index;
      entry.refusal = *std::move(refusal);
    }
    if (known.sealedBy != nullptr || forwarded.size() != topic.partitionData.size()) changed = Changed::kYes;
    topic.partitionData = std::move(forwarded);
  }
  std::erase_if(request.topicData, [](const ProduceRequest::Topic& topic) { return topic.partitionData.empty(); });
  co_return changed;
}

// The topics with large batches whose limits are not known.
std::vector<std::string> ProduceGuard::TopicsWithoutLimit(const ProduceRequest& request, int16_t version,
                                                          const policy::Policy& policies) const {
  std::vector<std::string> names;
  for (const ProduceRequest::Topic& topic : request.topicData) {
    const bool isLarge = std::any_of(topic.partitionData.begin(), topic.partitionData.end(), [](const auto& partition) {
      return partition.records.value_or(Bytes()).size() > kAskForLimitAbove;
    });
    if (!isLarge) continue;
    TopicState known = StateOf(topic, version, policies);
    if (known.sealedBy == nullptr) continue;
    if (shared_.topicLimits.Find(connection_.cluster, *known.name, TopicLimits::Clock::now()).has_value()) continue;
    names.push_back(*std::move(known.name));
  }
  return names;
}

// Asks the broker for the limits of topics. What it does not tell (to a principal that may not describe the topic)
// counts as the default.
io::Task<void> ProduceGuard::LearnLimits(std::vector<std::string> topics, proxy::Upstream& upstream) {
  if (topics.empty()) co_return;
  const TopicLimits::Clock::time_point now = TopicLimits::Clock::now();
  kafka::DescribeConfigsRequest ask;
  for (const std::string& name : topics) {
    kafka::DescribeConfigsRequest::Resource& resource = ask.resources.emplace_back();
    resource.resourceType = kafka::ConfigResourceType::kTopic;
    resource.resourceName = name;
    resource.configurationKeys.emplace().push_back(kLimitName);
    // Until the answer, what is known already counts.
    if (!shared_.topicLimits.Find(connection_.cluster, name, now).has_value()) {
      shared_.topicLimits.Assume(connection_.cluster, name, now);
    }
  }
  std::function<void(kafka::FrameWriter&)> write = [&ask](kafka::FrameWriter& writer) {
    kafka::Encode(ask, kDescribeConfigsVersion, writer);
  };
  auto asking = upstream.Ask(kafka::ApiKey::kDescribeConfigs, kDescribeConfigsVersion, std::move(write));
  const absl::StatusOr<Bytes> answer = co_await std::move(asking);
  if (!answer.ok()) co_return;
  const auto described = kafka::Decode<kafka::DescribeConfigsResponse>(*answer, kDescribeConfigsVersion);
  if (!described.ok()) co_return;
  for (const kafka::DescribeConfigsResponse::Result& result : described->results) {
    const std::optional<size_t> bytes = LimitIn(result);
    if (bytes.has_value()) shared_.topicLimits.Learn(connection_.cluster, result.resourceName, *bytes, now);
  }
}

TopicLimits::Limit ProduceGuard::LimitOf(std::string_view topic) const {
  return shared_.topicLimits.Find(connection_.cluster, topic, TopicLimits::Clock::now()).value_or(TopicLimits::Limit());
}

ProduceGuard::TopicState ProduceGuard::StateOf(const ProduceRequest::Topic& topic, int16_t version,
                                               const policy::Policy& policies) const {
  TopicState state;
  if (version < kFirstVersionWithTopicIds) {
    state.wireName = std::string(topic.name);
    state.name = state.wireName;
  } else {
    state.wireName = topic.topicId.Text();
    state.name = shared_.topicNames.Find(topic.topicId);
  }
  const policy::TopicPolicy* const policy = state.name.has_value() ? policies.Find(*state.name) : nullptr;
  if (policy != nullptr && policy->seal.has_value()) state.sealedBy = policy;
  return state;
}

io::Task<std::optional<Refusal>> ProduceGuard::SealPartition(const TopicState& topic, int16_t version, Limits& limits,
                                                             ProduceRequest::Partition& partition,
                                                             proxy::Upstream& upstream, proxy::Arena& arena) {
  if (!partition.records.has_value() || partition.records->empty()) co_return std::nullopt;
  if (std::optional<Refusal> before = RefusedBefore(topic, partition); before.has_value()) co_return before;
  std::optional<Refusal> refusal;
  if (!topic.name.has_value()) {
    // The broker could not name it either: the client asks for the topic's metadata again.
    refusal.emplace();
    refusal->code = ErrorCode::kUnknownTopicId;
    refusal->message = "kveil: a topic id that the broker cannot name";
    refusal->recordCount = RecordCount(partition);
  } else if (topic.sealedBy != nullptr) {
    auto sealing = SealRecords(topic, version, limits, partition, upstream, arena);
    refusal = co_await std::move(sealing);
  }
  if (refusal.has_value()) RememberRefusal(topic, partition, *refusal);
  co_return refusal;
}

io::Task<std::optional<Refusal>> ProduceGuard::SealRecords(const TopicState& topic, int16_t version, Limits& limits,
                                                           ProduceRequest::Partition& partition,
                                                           proxy::Upstream& upstream, proxy::Arena& arena) {
  SealTask task;
  task.topic = topic.sealedBy;
  task.topicName = *topic.name;
  task.cluster = connection_.cluster;
  task.records = *partition.records;
  task.zstdAllowed = version >= kFirstVersionWithZstd;
  task.topicLimit = LimitOf(task.topicName).bytes;
  task.batchLimit = std::min(shared_.limits.batchSize, limits.room);
  ByteBuffer& sealed = arena.NewBuffer();
  SealOutcome outcome = SealBatch(task, scratch_, sealed);
  shared_.metrics.KeyCacheMisses(outcome.misses.scopes.size());
  while (outcome.kind == SealOutcome::Kind::kMissingKeys) {
    if (std::chrono::steady_clock::now() > limits.deadline) {
      outcome.kind = SealOutcome::Kind::kRefused;
      outcome.refusal.code = ErrorCode::kNotEnoughReplicas;
      outcome.refusal.reason = observe::RefuseReason::kKeysUnavailable;
      outcome.refusal.message = "kveil: the keys cannot be reached now";
      outcome.refusal.recordCount = RecordCount(partition);
      break;
    }
    auto fetching = FetchKeys(loop_, scratch_.keyCache, std::move(outcome.misses));
    (void)co_await std::move(fetching);  // what could not be had is asked for again
    outcome = SealBatch(task, scratch_, sealed);
  }
  if (outcome.kind == SealOutcome::Kind::kRefused) co_return std::move(outcome.refusal);
  TopicLimits::Limit limit = LimitOf(task.topicName);
  if (sealed.size() > limit.bytes && limit.isCertain) {
    // An operator may have raised it meanwhile.
    if (TopicLimits::Clock::now() - limit.learned > kBelieveLimitFor) {
      auto learning = LearnLimits({*topic.name}, upstream);
      co_await std::move(learning);
      limit = LimitOf(task.topicName);
    }
    if (sealed.size() > limit.bytes && limit.isCertain) co_return TooLarge(sealed.size(), limit.bytes, partition);
  }
  Count(outcome);
  limits.room -= std::min(limits.room, sealed.size());
  partition.records = Bytes(sealed);
  co_return std::nullopt;
}

ProducerPartition ProduceGuard::KeyOf(const kafka::BatchHeader& header, const TopicState& topic,
                                      int32_t partition) const {
  ProducerPartition key;
  key.producerId = header.producerId;
  key.producerEpoch = header.producerEpoch;
  key.cluster = connection_.cluster;
  key.topic = topic.wireName;
  key.partition = partition;
  return key;
}

std::optional<Refusal> ProduceGuard::RefusedBefore(const TopicState& topic,
                                                   const ProduceRequest::Partition& partition) {
  if (shared_.refusals.empty()) return std::nullopt;
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(partition);
  if (!header.has_value() || !header->isIdempotent()) return std::nullopt;
  const std::optional<ErrorCode> code =
      shared_.refusals.Check(KeyOf(*header, topic, partition.index), header->baseSequence, RefusalMemory::Clock::now());
  if (!code.has_value()) return std::nullopt;
  Refusal refusal;
  refusal.code = *code;
  refusal.reason = observe::RefuseReason::kOutOfOrder;
  refusal.message = "kveil: an earlier batch of this producer was refused and has to come first";
  refusal.recordCount = RecordCount(partition);
  return refusal;
}

void ProduceGuard::RememberRefusal(const TopicState& topic, const ProduceRequest::Partition& partition,
                                   const Refusal& refusal) {
  const std::optional<kafka::BatchHeader> header = FirstBatchHeader(partition);
  if (!header.has_value() || !header->isIdempotent()) return;
  // The batches behind one that has to be split are none of them too large: they only have to wait.
  const ErrorCode forOthers =
      refusal.code == ErrorCode::kMessageTooLarge ? ErrorCode::kNotEnoughReplicas : refusal.code;
  shared_.refusals.Remember(KeyOf(*header, topic, partition.index), header->baseSequence, forOthers,
                            RefusalMemory::Clock::now());
}

void ProduceGuard::Count(const SealOutcome& outcome) {
  shared_.metrics.RecordsSealed(outcome.sealed);
  if (outcome.afterErasure > 0) shared_.metrics.RecordsAfterErasure(outcome.afterErasure);
  shared_.metrics.KeyCacheHits(outcome.keysUsed);
}

// One line a request: a request may be refused in as many partitions as fit into it.
void ProduceGuard::Report(const std::vector<Refused>& refused) const {
  for (const Refused& one : refused) shared_.metrics.RecordsRefused(one.refusal.reason, one.refusal.recordCount);
  const Refused& first = refused.front();
  const std::vector<Refusal::Record>& records = first.refusal.records;
  log::Warning("produce.refused",
               {{"connection", connection_.id},
                {"topic", first.name.empty() ? first.topicId.Text() : first.name},
                {"partition", first.partition},
                {"partitions", refused.size()},
                {"code", kafka::ErrorName(first.refusal.code)},
                {"records", first.refusal.recordCount},
                {"reason", first.refusal.message},
                {"firstRecord", records.empty() ? "-" : StrCat(records[0].index, ": ", records[0].message)}});
}

io::Task<ResponseVerdict> ProduceGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                   proxy::FrameOutput& output) {
  absl::StatusOr<ProduceResponse> decoded = kafka::Decode<ProduceResponse>(response.body, response.version);
  if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
  for (const kafka::NodeEndpoint& broker : decoded->nodeEndpoints) {
    auto learning = shared_.brokers.Learn(loop_, broker.host, broker.port, connection_.targetIndex);
    const absl::Status learned = co_await std::move(learning);
    if (!learned.ok()) co_return ResponseVerdict::Close(std::string(learned.message()));
  }
  const auto& ours = static_cast<const State&>(*state);
  if (ours.refused.empty()) co_return ResponseVerdict::Forward();
  ours.AddTo(*decoded);
  output.writer.BeginFrame();
  output.writer.Append(response.header());
  kafka::Encode(*decoded, response.version, output.writer);
  output.writer.FinishFrame();
  co_return ResponseVerdict::Rewrite();
}

}  // namespace kveil::guard
