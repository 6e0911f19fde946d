// Why records of a partition are not forwarded, in the terms of a Produce response.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kafka/error_code.h"
#include "observe/metrics.h"

namespace kveil::guard {

struct Refusal {
  struct Record {
    int32_t index = 0;  // in the batch
    std::string message;
  };
  kafka::ErrorCode code = kafka::ErrorCode::kNone;
  observe::RefuseReason reason = observe::RefuseReason::kOther;
  std::string message;  // never holds anything of a record
  std::vector<Record> records;
  uint64_t recordCount = 1;

  // Memory in bytes, without the struct itself.
  size_t bytes() const {
    size_t bytes = message.size() + records.size() * sizeof(Record);
    for (const Record& record : records) bytes += record.message.size();
    return bytes;
  }
};

inline Refusal Refuse(kafka::ErrorCode code, observe::RefuseReason reason, std::string message, uint64_t recordCount) {
  Refusal refusal;
  refusal.code = code;
  refusal.reason = reason;
  refusal.message = std::move(message);
  refusal.recordCount = recordCount;
  return refusal;
}

// Because of the records themselves, which a client should not send again.
inline Refusal RefuseInvalid(observe::RefuseReason reason, std::string message, uint64_t recordCount = 1) {
  return Refuse(kafka::ErrorCode::kInvalidRecord, reason, std::move(message), recordCount);
}

}  // namespace kveil::guard
