// Seals one record batch on its way to the broker.
#pragma once

#include <cstddef>

#include "base/bytes.h"
#include "guard/seal/seal_task.h"
#include "guard/worker/worker_scratch.h"
#include "policy/policy.h"

namespace kveil::guard {

// What sealing adds to a record at most, and somewhat more: the header's name and lengths, the envelope, the tag, and
// what lengths grow by. Part of the rule by which batches are cut: with another number, a batch that an older agent
// sent would be cut otherwise when it comes again.
inline constexpr size_t kMostGrowth = 64;
// The same with users' keys, where the id of a KEK key may be in the envelope, too. Also without a KEK: a topic that
// gets one may have batches under way.
inline constexpr size_t kMostGrowthOfUsers = kMostGrowth + 16;
inline size_t MostGrowthOf(const policy::SealRule& rule) {
  return rule.scope == policy::SealScope::kUser ? kMostGrowthOfUsers : kMostGrowth;
}

// Writes the sealed batch to `out` (appended), as one, or as several where sealing might make it larger than its topic
// takes. Where it is cut depends only on the batch as it came, on the topic's limit and on the first record, so that a
// batch that is sent again is cut alike: the broker knows a batch by its first and last sequence number. What was too
// large as it came stays one, and too large; a record that is too large alone may stay so, too. Does not suspend; with
// kNeeds `out` is unchanged, and the work is to be done again when the needs are fetched.
SealOutcome SealBatch(const SealTask& task, WorkerScratch& scratch, ByteBuffer& out);

}  // namespace kveil::guard
