// What is asked of sealing a batch, and what comes of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "base/bytes.h"
#include "guard/learn/topic_limits.h"
#include "guard/refuse/refusal.h"
#include "guard/stages/counts.h"
#include "guard/worker/needs.h"
#include "identity/workload.h"
#include "policy/policy.h"

namespace kveil::guard {

struct SealTask {
  const policy::TopicPolicy* topic = nullptr;  // has a seal rule
  std::string_view topicName;
  std::string_view cluster;
  Bytes records;                              // the partition's records field
  bool zstdAllowed = true;                    // Produce version 7 and newer
  size_t batchLimit = 64 << 20;               // bytes of a batch after decompression
  size_t usersLimit = 100'000;                // different users in a batch
  size_t topicLimit = TopicLimits::kDefault;  // bytes of a batch that the broker takes
  bool limitIsCertain = true;                 // otherwise it takes whatever is no larger than it came, for all we know
  size_t partSize = 0;                        // where an earlier try settled how the batch is cut
  // The entries of topic->write that fit the workload, where these let it write some records only. nullptr: all.
  const policy::EntrySet* writers = nullptr;
  const identity::Workload* writer = nullptr;  // with `writers` only
  absl::Time now;                              // for the ends of consents; with `writers` only
  bool isAudited = false;                      // whether `audit` of the outcome is wanted
  int32_t firstRecord = 0;                     // those before it are left out: the broker has them
};

// One of the batches that a batch was sealed into.
struct SealedPart {
  size_t size = 0;  // bytes
  int32_t records = 0;
};

struct SealOutcome : ProducedCounts {
  enum class Kind {
    kSealed,
    kNeeds,  // fetch them and try again
    kRefused,
  };
  Kind kind = Kind::kSealed;
  Needs needs;                    // kNeeds
  Refusal refusal;                // kRefused
  std::vector<SealedPart> parts;  // in the order of the records; one, unless sealing may make the batch too large
  size_t partSize = 0;            // what the parts were filled to
  uint64_t keysUsed = 0;          // by each part, all found in the cache
};

}  // namespace kveil::guard
