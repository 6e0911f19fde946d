#include "guard/split_batches.h"

#include <algorithm>
#include <utility>

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::ProduceRequest;
using kafka::ProduceResponse;

ProduceResponse::Partition* Find(ProduceResponse& response, const PartitionAddress& address) {
  const auto topic = FindTopic(response.responses, address);
  if (topic == response.responses.end()) return nullptr;
  for (ProduceResponse::Partition& partition : topic->partitionResponses) {
    if (partition.index == address.partition) return &partition;
  }
  return nullptr;
}

// Of the last part: the broker has it, from now or from an earlier time.
bool IsTaken(ErrorCode code) { return code == ErrorCode::kNone || code == ErrorCode::kDuplicateSequenceNumber; }

// The broker may have appended what it answers with this.
bool LeavesOpen(ErrorCode code) {
  return code == ErrorCode::kUnknownServerError || code == ErrorCode::kRequestTimedOut ||
         code == ErrorCode::kNetworkException || code == ErrorCode::kNotEnoughReplicasAfterAppend ||
         code == ErrorCode::kKafkaStorageError;
}

}  // namespace

void SplitBatches::Add(PartitionAddress address, std::vector<Part> parts, std::optional<SplitMemory::BatchId> id,
                       bool sentBefore) {
  Batch& batch = batches_.emplace_back();
  batch.address = std::move(address);
  batch.parts = std::move(parts);
  batch.id = std::move(id);
  batch.sentBefore = sentBefore;
}

void SplitBatches::AddTaken(PartitionAddress address, int64_t baseOffset) {
  Batch& batch = batches_.emplace_back();
  batch.address = std::move(address);
  batch.baseOffset = baseOffset;
}

// What the broker says of one of the parts before the last; nullptr: it says nothing.
void SplitBatches::Batch::Take(const Part& part, const ProduceResponse::Partition* answer) {
  const ErrorCode said = answer == nullptr ? ErrorCode::kUnknownServerError : answer->errorCode;
  // Of a batch that was sent before, a part that is out of sequence may be one of long ago; if it is not, the last is
  // out of sequence, too.
  if (IsTaken(said) || (sentBefore && said == ErrorCode::kOutOfOrderSequenceNumber)) {
    if (said == ErrorCode::kNone) LearnOffset(answer->baseOffset);
    recordsTaken += part.records;
    return;
  }
  refusal.code = said;
  if (answer == nullptr) return;
  refusal.message = answer->errorMessage.value_or("");
  for (const ProduceResponse::RecordError& error : answer->recordErrors) {
    Refusal::Record& kept = refusal.records.emplace_back();
    kept.index = recordsTaken + error.batchIndex;
    kept.message = error.batchIndexErrorMessage.value_or("");
  }
}

// The next part is at this offset. Producers count on from the batch's first, which is right for all records as long as
// nobody else's came in between; otherwise for those of the first part that is known.
void SplitBatches::Batch::LearnOffset(int64_t offset) {
  if (baseOffset < 0 && offset >= recordsTaken) baseOffset = offset - recordsTaken;
}

// Whether the broker has no part of it for certain.
bool SplitBatches::Batch::IsOutOfTheLog() const {
  return failed() && recordsTaken == 0 && !sentBefore && !LeavesOpen(refusal.code);
}

// The parts with this number of all batches that have more behind it.
ProduceRequest SplitBatches::RequestOfRound(const ProduceRequest& request, size_t round) const {
  ProduceRequest parts;
  parts.transactionalId = request.transactionalId;
  parts.acks = request.acks == 0 ? int16_t{1} : request.acks;  // the next may only follow when this one is there
  parts.timeoutMs = request.timeoutMs;
  for (const Batch& batch : batches_) {
    if (!batch.HasLeading(round)) continue;
    ProduceRequest::Partition& partition = FindOrAddTopic(parts.topicData, batch.address)->partitionData.emplace_back();
    partition.index = batch.address.partition;
    partition.records = batch.parts[round].batch;
  }
  return parts;
}

io::Task<absl::Status> SplitBatches::SendLeading(ProduceRequest& request, const kafka::RequestHeader& header,
                                                 proxy::Upstream& upstream) {
  for (const Batch& batch : batches_) {
    if (!batch.id.has_value()) continue;
    std::vector<int32_t> counts;
    for (const Part& part : batch.parts) counts.push_back(part.records);
    memory_.Remember(*batch.id, std::move(counts), SplitMemory::Clock::now());
  }
  for (size_t round = 0;; ++round) {
    const ProduceRequest parts = RequestOfRound(request, round);
    if (parts.topicData.empty()) break;
    std::function<void(kafka::FrameWriter&)> write = [&](kafka::FrameWriter& writer) {
      kafka::Encode(parts, header.version, writer);
    };
    auto asking = upstream.Ask(kafka::ApiKey::kProduce, header.version, header.clientId, std::move(write));
    const absl::StatusOr<Bytes> answer = co_await std::move(asking);
    if (!answer.ok()) co_return answer.status();
    absl::StatusOr<ProduceResponse> response = kafka::Decode<ProduceResponse>(*answer, header.version);
    if (!response.ok()) co_return response.status();
    for (Batch& batch : batches_) {
      if (!batch.HasLeading(round)) continue;
      batch.Take(batch.parts[round], Find(*response, batch.address));
    }
  }
  for (const Batch& batch : batches_) {
    if (!batch.failed()) continue;
    Remove(batch.address, request);
    if (batch.id.has_value() && batch.IsOutOfTheLog()) memory_.Forget(*batch.id);
  }
  co_return absl::OkStatus();
}

void SplitBatches::Remove(const PartitionAddress& address, ProduceRequest& request) {
  for (ProduceRequest::Topic& topic : request.topicData) {
    if (topic.name != address.topic || topic.topicId != address.topicId) continue;
    std::erase_if(topic.partitionData, [&](const auto& partition) { return partition.index == address.partition; });
  }
  std::erase_if(request.topicData, [](const ProduceRequest::Topic& topic) { return topic.partitionData.empty(); });
}

std::vector<SplitBatches::Failure> SplitBatches::failures() const {
  std::vector<Failure> failures;
  for (const Batch& batch : batches_) {
    if (batch.failed()) failures.push_back({batch.address, batch.id});
  }
  return failures;
}

void SplitBatches::Complete(ProduceResponse& response) {
  for (const Batch& batch : batches_) {
    if (batch.failed() || batch.parts.empty()) {
      AddPartition(batch.address, batch.refusal, response).baseOffset = batch.failed() ? -1 : batch.baseOffset;
    }
  }
  for (Batch& batch : batches_) {
    ProduceResponse::Partition* const last = Find(response, batch.address);
    if (batch.failed() || batch.parts.empty() || last == nullptr) continue;
    if (IsTaken(last->errorCode)) {
      batch.LearnOffset(last->baseOffset);
      last->baseOffset = batch.baseOffset;
      if (batch.id.has_value()) memory_.Taken(*batch.id, batch.baseOffset);
      continue;
    }
    for (ProduceResponse::RecordError& error : last->recordErrors) error.batchIndex += batch.recordsTaken;
  }
}

}  // namespace kveil::guard
