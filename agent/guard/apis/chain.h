// The interceptors of a connection.
#pragma once

#include <memory>
#include <vector>

#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// A new capability is a new file and a line here. `connection` and the rest outlive what is returned.
std::vector<std::unique_ptr<proxy::Interceptor>> BuildChain(SharedState& shared, WorkerScratch& scratch, io::Loop& loop,
                                                            const proxy::ConnectionInfo& connection);

}  // namespace kveil::guard
