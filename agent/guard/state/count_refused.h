// Counts of what was refused.
#pragma once

#include <cstdint>

#include "observe/metrics.h"
#include "proxy/connection_info.h"

namespace kveil::guard {

// Records, or answers in place of some, that were refused for this reason: in the metrics, and for whoever lists
// connections.
inline void CountRefused(observe::Metrics& metrics, const proxy::ConnectionInfo& connection,
                         observe::RefuseReason reason, uint64_t count) {
  metrics.RecordsRefused(reason, count);
  connection.tally->records.refused += count;
}

}  // namespace kveil::guard
