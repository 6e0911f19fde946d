#include "guard/seal/split_batches.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;

// Of a part: the broker has it, from now or from an earlier time.
bool IsTaken(ErrorCode code) { return code == ErrorCode::kNone || code == ErrorCode::kDuplicateSequenceNumber; }

// With these codes the broker answers before it appends (ReplicaManager.appendRecords, UnifiedLog.append, and what
// KafkaApis checks before them). Any other may come when the batch is in the log: NOT_LEADER_OR_FOLLOWER and
// UNKNOWN_TOPIC_OR_PARTITION too, where the leader changes while the replicas are waited for.
bool IsCertainNotToAppend(ErrorCode code) {
  switch (code) {
    case ErrorCode::kCorruptMessage:
    case ErrorCode::kMessageTooLarge:
    case ErrorCode::kInvalidTopicException:
    case ErrorCode::kRecordListTooLarge:
    case ErrorCode::kNotEnoughReplicas:
    case ErrorCode::kInvalidRequiredAcks:
    case ErrorCode::kTopicAuthorizationFailed:
    case ErrorCode::kClusterAuthorizationFailed:
    case ErrorCode::kInvalidTimestamp:
    case ErrorCode::kUnsupportedForMessageFormat:
    case ErrorCode::kOutOfOrderSequenceNumber:
    case ErrorCode::kInvalidProducerEpoch:
    case ErrorCode::kInvalidTxnState:
    case ErrorCode::kInvalidProducerIdMapping:
    case ErrorCode::kTransactionalIdAuthorizationFailed:
    case ErrorCode::kUnknownProducerId:
    case ErrorCode::kUnsupportedCompressionType:
    case ErrorCode::kInvalidRecord:
    case ErrorCode::kProducerFenced:
    case ErrorCode::kUnknownTopicId:
      return true;
    default:
      return false;
  }
}

}  // namespace

size_t SplitBatches::Batch::largestPart() const {
  size_t largest = 0;
  for (const Part& part : parts) largest = std::max(largest, part.batch.size());
  return largest;
}

size_t SplitBatches::Batch::bytes() const {
  size_t bytes = sizeof(*this) + address.topic.size() + parts.size() * sizeof(Part) + refusal.bytes();
  if (id.has_value()) {
    const ProducerPartition& producer = id->producer;
    bytes += producer.workload.size() + producer.cluster.size() + producer.topic.size();
  }
  if (unknownLimit.has_value()) bytes += unknownLimit->topic.size();
  return bytes;
}

size_t SplitBatches::bytes() const {
  size_t bytes = 0;
  for (const Batch& batch : batches_) bytes += batch.bytes();
  return bytes;
}

bool SplitBatches::Batch::MayBeCutSmaller() const {
  if (refusal.code != ErrorCode::kMessageTooLarge || !unknownLimit.has_value()) return false;
  const Bytes whole = unknownLimit->records;
  return !whole.empty() && parts[sent].records > 1 && parts[sent].batch.size() > whole.size();
}

void SplitBatches::Batch::CutSmaller(std::vector<Part> rest) {
  parts = std::move(rest);
  sent = 0;
  refusal = Refusal();
  unknownLimit->records = Bytes();
}

// What the broker says of the next part, which went ahead; nullptr: it says nothing.
void SplitBatches::Batch::Take(const ProduceResponse::Partition* answer, size_t& room) {
  const ErrorCode said = answer == nullptr ? ErrorCode::kUnknownServerError : answer->errorCode;
  // The broker knows this producer, and may have the part from so long ago that it does not know that again. If it does
  // not have it, the next is out of sequence, too: only what comes next in sequence is taken.
  const bool isOfLongAgo = said == ErrorCode::kOutOfOrderSequenceNumber && sent + 1 < parts.size();
  if (IsTaken(said) || isOfLongAgo) {
    if (said == ErrorCode::kNone) LearnOffset(answer->baseOffset);
    recordsTaken += parts[sent++].records;
    return;
  }
  refusal.code = said;
  if (answer == nullptr) return;
  refusal.message = answer->errorMessage.value_or("").substr(0, room);
  room -= refusal.message.size();
  for (const ProduceResponse::RecordError& error : answer->recordErrors) {
    const std::string_view message = error.batchIndexErrorMessage.value_or("");
    const size_t bytes = sizeof(Refusal::Record) + message.size();
    if (bytes > room) break;
    room -= bytes;
    refusal.records.push_back({.index = recordsTaken + error.batchIndex, .message = std::string(message)});
  }
}

// The next part is at this offset. Producers count on from the batch's first, which is right for all records as long as
// nobody else's came in between; otherwise for those of the first part that is known.
void SplitBatches::Batch::LearnOffset(int64_t offset) {
  if (baseOffset < 0 && offset >= recordsTaken) baseOffset = offset - recordsTaken;
}

// Whether the broker took no part of it this time for certain.
bool SplitBatches::Batch::IsOutOfTheLog() const {
  return failed() && recordsTaken == 0 && IsCertainNotToAppend(refusal.code);
}

void SplitBatches::AddTaken(PartitionAddress address, int64_t baseOffset) {
  Batch& batch = batches_.emplace_back();
  batch.address = std::move(address);
  batch.baseOffset = baseOffset;
}

ProduceRequest SplitBatches::RequestOfNextParts(const ProduceRequest& request,
                                                const std::vector<Batch*>& batches) const {
  ProduceRequest parts;
  parts.transactionalId = request.transactionalId;
  parts.acks = request.acks == 0 ? int16_t{1} : request.acks;  // the next may only follow when this one is there
  parts.timeoutMs = request.timeoutMs;
  for (const Batch* const batch : batches) {
    // They are in the order of the request, so those of a topic follow each other.
    if (parts.topicData.empty() || !batch->address.IsOf(parts.topicData.back())) {
      ProduceRequest::Topic& topic = parts.topicData.emplace_back();
      topic.name = batch->address.topic;
      topic.topicId = batch->address.topicId;
    }
    ProduceRequest::Partition& partition = parts.topicData.back().partitionData.emplace_back();
    partition.index = batch->address.partition;
    partition.records = batch->parts[batch->sent].batch;
  }
  return parts;
}

io::Task<absl::Status> SplitBatches::SendAhead(const ProduceRequest& request, const kafka::RequestHeader& header,
                                               proxy::Upstream& upstream) {
  std::vector<Batch*> sending;
  for (Batch& batch : batches_) {
    if (batch.HasAhead()) sending.push_back(&batch);
  }
  while (!sending.empty()) {
    const ProduceRequest parts = RequestOfNextParts(request, sending);
    std::function<void(kafka::FrameWriter&)> write = [&](kafka::FrameWriter& writer) {
      kafka::Encode(parts, header.version, writer);
    };
    auto asking = upstream.Ask(kafka::ApiKey::kProduce, header.version, header.clientId, std::move(write));
    const absl::StatusOr<Bytes> answer = co_await std::move(asking);
    if (!answer.ok()) co_return answer.status();
    absl::StatusOr<ProduceResponse> response = kafka::Decode<ProduceResponse>(*answer, header.version);
    if (!response.ok()) co_return response.status();
    if (absl::Status checked = CheckAnswer(*response, sending.size()); !checked.ok()) co_return checked;
    ProduceAnswer found(*response);
    for (Batch* const batch : sending) batch->Take(found.Find(batch->address), room_);
    // It will send the batch again on another connection, and the rest of it here could come behind that. One that
    // wants no acknowledgement sends once, and may close right afterwards.
    if (request.acks != 0 && upstream.IsApplicationGone()) co_return absl::CancelledError("the producer has gone");
    std::erase_if(sending, [](const Batch* batch) { return !batch->HasAhead(); });
  }
  co_return absl::OkStatus();
}

void SplitBatches::Settle(ProduceRequest& request) {
  for (Batch& batch : batches_) {
    if (!batch.id.has_value()) continue;
    if (batch.IsOutOfTheLog()) {
      memory_.Forget(*batch.id, SplitMemory::Clock::now());
    } else if (batch.isSettled() && !batch.failed()) {
      memory_.Taken(*batch.id, batch.baseOffset, SplitMemory::Clock::now());
    }
  }
  TakeOutSettled(request);
}

void SplitBatches::TakeOutSettled(ProduceRequest& request) const {
  absl::flat_hash_set<PartitionAddress> settled;
  for (const Batch& batch : batches_) {
    if (batch.isSettled() && !batch.parts.empty()) settled.insert(batch.address);
  }
  if (settled.empty()) return;
  for (ProduceRequest::Topic& topic : request.topicData) {
    PartitionAddress address;
    address.topic = std::string(topic.name);
    address.topicId = topic.topicId;
    std::erase_if(topic.partitionData, [&](const ProduceRequest::Partition& partition) {
      address.partition = partition.index;
      return settled.contains(address);
    });
  }
  std::erase_if(request.topicData, [](const ProduceRequest::Topic& topic) { return topic.partitionData.empty(); });
}

void SplitBatches::Complete(ProduceAnswer& answer) {
  for (Batch& batch : batches_) {
    if (batch.isSettled()) {
      const PartitionAddress& address = batch.address;
      answer.Add(address.topic, address.topicId, address.partition, batch.refusal).baseOffset =
          batch.failed() ? -1 : batch.baseOffset;
      continue;
    }
    ProduceResponse::Partition* const last = answer.Find(batch.address);
    if (last == nullptr) continue;
    if (IsTaken(last->errorCode)) {
      batch.LearnOffset(last->baseOffset);
      last->baseOffset = batch.baseOffset;
      if (batch.id.has_value()) memory_.Taken(*batch.id, batch.baseOffset, SplitMemory::Clock::now());
      continue;
    }
    for (ProduceResponse::RecordError& error : last->recordErrors) error.batchIndex += batch.recordsTaken;
  }
}

}  // namespace kveil::guard
