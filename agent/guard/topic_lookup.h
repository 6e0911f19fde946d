// Asks the broker for the names of topic ids that no response has named yet: after a restart of the agent, clients go
// on with the ids they know.
#pragma once

#include <chrono>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "guard/topic_names.h"
#include "kafka/topic_id.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// One a connection.
class TopicLookup {
 public:
  explicit TopicLookup(TopicNames& names) : names_(names) {}

  // Learns what the broker can tell of `ids`, ahead of the request that is being handled. An id that the broker does
  // not know is not asked for again within a second.
  io::Task<void> Learn(std::vector<kafka::TopicId> ids, proxy::Upstream& upstream);

 private:
  TopicNames& names_;
  // Ids that the broker does not know either, and when they may be asked for again.
  absl::flat_hash_map<kafka::TopicId, std::chrono::steady_clock::time_point> unknown_;
};

}  // namespace kveil::guard
