#include "guard/produce_answer.h"

namespace kveil::guard {

kafka::ProduceResponse::Partition& AddPartition(const PartitionAddress& address, const Refusal& refusal,
                                                kafka::ProduceResponse& response) {
  kafka::ProduceResponse::Partition& partition =
      FindOrAddTopic(response.responses, address)->partitionResponses.emplace_back();
  partition.index = address.partition;
  partition.errorCode = refusal.code;
  partition.baseOffset = -1;
  if (!refusal.message.empty()) partition.errorMessage = refusal.message;
  for (const Refusal::Record& record : refusal.records) {
    kafka::ProduceResponse::RecordError& error = partition.recordErrors.emplace_back();
    error.batchIndex = record.index;
    if (!record.message.empty()) error.batchIndexErrorMessage = record.message;
  }
  return partition;
}

}  // namespace kveil::guard
