// Asks the broker for the names of topic ids that no response has named yet: after a restart of the agent, clients go
// on with the ids they know.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "guard/learn/topic_names.h"
#include "kafka/topic_id.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// Several a connection.
class TopicLookup {
 public:
  TopicLookup(TopicNames& names, const proxy::ConnectionInfo& connection) : names_(names), connection_(connection) {}

  // One metadata request asks for no more topics than this; the next fetch asks for the rest.
  static constexpr size_t kMostAskedAtOnce = 1000;
  // Ids that are not asked for again for so long, about 2 KiB: every connection may have as many.
  static constexpr size_t kMostUnknown = 100;
  // Of more than so many different ids, some are not looked at.
  static constexpr size_t kMostUseful = kMostAskedAtOnce + kMostUnknown;

  // Learns what the broker can tell of `ids`, ahead of the request that is being handled. Ids that the broker does not
  // know are asked for again about once a second, or with each request what there is of them beyond a bound.
  io::Task<void> Learn(std::vector<kafka::TopicId> ids, proxy::Upstream& upstream);

  // How many ids are remembered as unknown.
  size_t unknown() const { return unknown_.size(); }

 private:
  TopicNames& names_;
  const proxy::ConnectionInfo& connection_;
  absl::flat_hash_set<kafka::TopicId> unknown_;  // ids that the broker does not know either
  std::chrono::steady_clock::time_point since_;  // when the first of them was asked for
};

}  // namespace kveil::guard
