// The interceptors of a connection.
#pragma once

#include <memory>
#include <vector>

#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// Returns a guard for each API of guarded_apis.h. All arguments must outlive them.
std::vector<std::unique_ptr<proxy::Interceptor>> BuildChain(SharedState& shared, WorkerScratch& scratch, io::Loop& loop,
                                                            const proxy::ConnectionInfo& connection);

}  // namespace kveil::guard
