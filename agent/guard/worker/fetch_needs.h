// How a batch waits for its keys, without holding up any other connection.
#pragma once

#include <chrono>

#include "absl/status/status.h"
#include "guard/worker/key_room.h"
#include "identity/workload.h"
#include "io/loop.h"
#include "io/task.h"
#include "keys/cache/key_cache.h"

namespace kveil::guard {

// Fetches what is missing into the worker's cache, piece by piece, and tries again until `deadline` what cannot be had
// now; each piece is tried once in any case. OK: it is all there, or a batch that needs it all cannot be opened anyway.
// Else (kUnavailable) this has waited a little, so that the caller may simply call it again.
io::Task<absl::Status> FetchKeys(io::Loop& loop, keys::KeyCache& cache, KeyRoom& room,
                                 const identity::Workload& workload, keys::Misses misses,
                                 std::chrono::steady_clock::time_point deadline);

}  // namespace kveil::guard
