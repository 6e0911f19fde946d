// Asks the broker for the names of topic ids that no response has named yet: after a restart of the agent, clients go
// on with the ids they know.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/expiring_map.h"
#include "guard/topic_names.h"
#include "kafka/topic_id.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// One a connection.
class TopicLookup {
 public:
  TopicLookup(TopicNames& names, const std::string& cluster)
      : names_(names), cluster_(cluster), unknown_(kMostUnknown, kAskAgain) {}

  // Learns what the broker can tell of `ids`, ahead of the request that is being handled. An id that the broker does
  // not know is not asked for again within a second.
  io::Task<void> Learn(std::vector<kafka::TopicId> ids, proxy::Upstream& upstream);

 private:
  static constexpr std::chrono::seconds kAskAgain{1};
  static constexpr size_t kMostUnknown = 10'000;  // one that was dropped for others is asked for again

  struct Asked {};
  TopicNames& names_;
  const std::string& cluster_;
  ExpiringMap<kafka::TopicId, Asked> unknown_;  // ids that the broker does not know either
};

}  // namespace kveil::guard
