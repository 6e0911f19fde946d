// Opens one record batch on its way to a reader.
#pragma once

#include "base/bytes.h"
#include "guard/open/open_task.h"
#include "guard/worker/worker_scratch.h"
#include "kafka/record_batch.h"

namespace kveil::guard {

// Writes what the reader may see of the batch to `out` (appended). Does not suspend; unless kRewritten, `out` is
// unchanged.
OpenOutcome OpenBatch(const OpenTask& task, const kafka::BatchView& batch, WorkerScratch& scratch, ByteBuffer& out);

}  // namespace kveil::guard
