// What is asked of opening a batch, and what comes of it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "guard/client/masking.h"
#include "guard/stages/counts.h"
#include "guard/worker/key_room.h"
#include "guard/worker/needs.h"
#include "identity/workload.h"
#include "observe/metrics.h"
#include "policy/policy.h"

namespace kveil::guard {

struct OpenTask {
  const policy::TopicPolicy* topic = nullptr;
  std::string_view topicName;  // as the reader asks for it; envelopes are bound to topic->origin where that is set
  int64_t fetchOffset = 0;     // where the reader asked from
  Masking masking;
  // The entries of topic->read that fit the reader, where these let it read some records only. nullptr: all.
  const policy::EntrySet* readers = nullptr;
  const identity::Workload* reader = nullptr;  // with `readers` only
  std::chrono::system_clock::time_point now;   // for the ages of records and the ends of consents; with `readers` only
  bool isAudited = false;                      // whether `audit` of the outcome is wanted
  // The reader gets the batch uncompressed where it then has no more bytes than this. Otherwise it is compressed again
  // as it was; if it was not, or the reader does not know zstd, with gzip, which every client has.
  size_t uncompressedRoom = std::numeric_limits<size_t>::max();
  bool zstdAllowed = true;
  size_t batchLimit = 64 << 20;  // bytes of a batch after decompression
  // Different keys of a batch that are not in the cache. Whoever sealed it may have had other limits, so this is only
  // what no waiting would bring together.
  size_t keysLimit = KeyRoom::kMostKeys;
};

struct OpenOutcome : FetchedCounts {
  enum class Kind {
    kUnchanged,  // nothing in it is sealed or hidden: pass the original bytes
    kRewritten,  // appended to `out`
    kNeeds,      // fetch them and try again
    kStop,       // neither to be opened nor to be left out: nothing may go past this batch
  };
  Kind kind = Kind::kUnchanged;
  Needs needs;                                                   // kNeeds
  observe::RefuseReason reason = observe::RefuseReason::kOther;  // kStop
  std::string problem;                                           // kStop; never holds anything of a record
  // kRewritten: the batch was cut before this offset, that of a record whose reader is to get an error for it.
  std::optional<int64_t> deniedFrom;
  uint64_t keysUsed = 0;  // all found in the cache
};

}  // namespace kveil::guard
