// How a batch waits for what it lacks, without holding up any other connection.
#pragma once

#include <chrono>

#include "absl/status/status.h"
#include "guard/worker/needs.h"
#include "guard/worker/worker_scratch.h"
#include "identity/workload.h"
#include "io/loop.h"
#include "io/task.h"

namespace kveil::guard {

// Fetches `needs` into the worker's memory, piece by piece, on behalf of `workload`. Tries again until `deadline` what
// cannot be had now; each piece is tried once in any case. OK: it is all there, or a batch that needs it all cannot be
// opened anyway. Otherwise (kUnavailable) this has waited a little, so that the caller may simply call it again.
io::Task<absl::Status> FetchNeeds(io::Loop& loop, WorkerScratch& scratch, const identity::Workload& workload,
                                  Needs needs, std::chrono::steady_clock::time_point deadline);

}  // namespace kveil::guard
