// Opens one record batch on its way to a reader.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "guard/client/masking.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/record_batch.h"
#include "keys/service/key_service.h"
#include "observe/metrics.h"
#include "policy/policy.h"

namespace kveil::guard {

struct OpenTask {
  const policy::TopicPolicy* topic = nullptr;
  std::string_view topicName;  // as the reader asks for it; envelopes are bound to topic->origin where that is set
  int64_t fetchOffset = 0;     // where the reader asked from
  Masking masking;
  // The reader gets the batch uncompressed where it then has no more bytes than this. Otherwise it is compressed again
  // as it was; if it was not, or the reader does not know zstd, with gzip, which every client has.
  size_t uncompressedRoom = std::numeric_limits<size_t>::max();
  bool zstdAllowed = true;
  size_t batchLimit = 64 << 20;  // bytes of a batch after decompression
  // Different keys of a batch that are not in the cache. Whoever sealed it may have had other limits, so this is only
  // what no waiting would bring together.
  size_t keysLimit = KeyRoom::kMostKeys;
};

struct OpenOutcome {
  enum class Kind {
    kUnchanged,    // nothing in it is sealed or hidden: pass the original bytes
    kRewritten,    // appended to `out`
    kMissingKeys,  // fetch them and try again
    kStop,         // neither to be opened nor to be left out: nothing may go past this batch
  };
  Kind kind = Kind::kUnchanged;
  keys::Misses misses;
  observe::RefuseReason reason = observe::RefuseReason::kOther;  // kStop
  std::string problem;                                           // kStop; never holds anything of a record
  uint64_t opened = 0;
  uint64_t keysUsed = 0;          // distinct ones, all found in the cache
  uint64_t erased = 0;            // left out or masked: the user was erased
  uint64_t plaintext = 0;         // without an envelope
  bool plaintextDropped = false;  // left out or masked
};

// What a masked record has in place of its envelope. The header's value says why: "erased" or "plaintext".
inline constexpr std::string_view kMaskedHeaderName = "kveil-hidden";

// Writes what the reader may see of the batch to `out` (appended). Does not suspend; unless kRewritten, `out` is
// unchanged.
OpenOutcome OpenBatch(const OpenTask& task, const kafka::BatchView& batch, WorkerScratch& scratch, ByteBuffer& out);

}  // namespace kveil::guard
