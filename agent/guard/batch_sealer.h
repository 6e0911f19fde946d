// Seals one record batch on its way to the broker.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/bytes.h"
#include "guard/topic_limits.h"
#include "guard/worker_scratch.h"
#include "kafka/error_code.h"
#include "keys/key_service.h"
#include "observe/metrics.h"
#include "policy/policy.h"

namespace kveil::guard {

// Why a partition's records are not forwarded, in the terms of a Produce response.
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
};

struct SealTask {
  const policy::TopicPolicy* topic = nullptr;  // has a seal rule
  std::string_view topicName;
  std::string_view cluster;
  Bytes records;                              // the partition's records field
  bool zstdAllowed = true;                    // Produce version 7 and newer
  size_t batchLimit = 64 << 20;               // bytes of a batch after decompression
  size_t topicLimit = TopicLimits::kDefault;  // bytes of a batch that the broker takes
  absl::Span<const int32_t> partCounts;       // the records of each part, where that is settled; else it is found out
};

// One of the batches that a batch was sealed into.
struct SealedPart {
  size_t size = 0;  // bytes
  int32_t records = 0;
};

struct SealOutcome {
  enum class Kind { kSealed, kMissingKeys, kRefused };
  Kind kind = Kind::kSealed;
  keys::Misses misses;
  Refusal refusal;
  std::vector<SealedPart> parts;  // in the order of the records; one, unless sealing made the batch too large
  uint64_t sealed = 0;            // records
  uint64_t keysUsed = 0;          // distinct ones of each part, all found in the cache
  uint64_t afterErasure = 0;      // of them under a key that nobody keeps
};

// Writes the sealed batch to `out` (appended). One that the broker would have taken before and not after is written as
// several, each as small as the topic wants it; where that cannot be done, and where it was too large as it came, it
// stays one, and too large. Does not suspend; with kMissingKeys `out` is unchanged and the work is to be
// done again when the keys are there.
SealOutcome SealBatch(const SealTask& task, WorkerScratch& scratch, ByteBuffer& out);

}  // namespace kveil::guard
