// What a worker thread keeps for the batches it works on: keys and buffers that are used again for each batch.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "audit/tally.h"
#include "base/bytes.h"
#include "formats/json_finder.h"
#include "guard/worker/key_room.h"
#include "guard/worker/listed_users.h"
#include "guard/worker/search_pace.h"
#include "guard/worker/user_finder.h"
#include "kafka/batch_writer.h"
#include "keys/cache/key_cache.h"

namespace kveil::guard {

struct WorkerScratch {
  // `keyTimeout` is how long a batch waits for its keys.
  explicit WorkerScratch(keys::KeySource& service, std::chrono::milliseconds keyTimeout = std::chrono::seconds(5))
      : keyCache(service, keyTimeout) {}

  audit::Tally* audit = nullptr;  // nullptr: there is no audit trail
  keys::KeyCache keyCache;
  KeyRoom keyRoom;
  UserFinder userFinder;
  AllListedUsers listedUsers;
  SearchPace searchPace;
  formats::JsonFinder ruleFinder;  // of what rules ask of values
  kafka::BatchWriter writer;
  std::string users;      // of some records, where their spelling is not the record's own
  ByteBuffer records;     // of a compressed batch, decompressed
  ByteBuffer value;       // one value on the other side of its compression
  ByteBuffer compressed;  // one value, opened and still compressed
  ByteBuffer header;
  // Bytes of the batch in `writer` that were opened to see whether they fit, and taken back: work like any other.
  size_t takenBack = 0;
  // Of the batch that was worked on last: what its records came to, whatever became of them.
  size_t decompressedBytes = 0;
  uint64_t ruleWork = 0;  // as of RecordRules

  // Gives back what only a large batch has needed. Between batches.
  void Trim() {
    constexpr size_t kKept = 8 << 20;  // bytes a buffer; batches are seldom larger than a megabyte
    for (ByteBuffer* const buffer : {&records, &value, &compressed}) {
      if (buffer->capacity() > kKept) *buffer = ByteBuffer();
    }
    writer.ShrinkTo(kKept);
  }
};

}  // namespace kveil::guard
