// Seals one record batch on its way to the broker.
#pragma once

#include "base/bytes.h"
#include "guard/seal_pass.h"
#include "guard/worker_scratch.h"

namespace kveil::guard {

// Writes the sealed batch to `out` (appended). One that the broker would have taken before and not after is written as
// several, each as small as the topic wants it; where that cannot be done, and where it was too large as it came, it
// stays one, and too large. Does not suspend; with kMissingKeys `out` is unchanged and the work is to be
// done again when the keys are there.
SealOutcome SealBatch(const SealTask& task, WorkerScratch& scratch, ByteBuffer& out);

}  // namespace kveil::guard
