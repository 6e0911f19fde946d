// Asks the broker for the names of topic ids that no response has named yet: after a restart of the agent, clients
// continue with the ids that they know.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "guard/learn/topic_names.h"
#include "kafka/topic_id.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// A connection may have several.
class TopicLookup {
 public:
  TopicLookup(TopicNames& names, const proxy::ConnectionInfo& connection) : names_(names), connection_(connection) {}

  // The most topics that one metadata request asks for. The next fetch asks for the rest.
  static constexpr size_t kMostAskedAtOnce = 1000;
  // The most ids that are remembered as unknown to the broker: about 2 KiB per connection.
  static constexpr size_t kMostUnknown = 100;
  // Of more different ids than this, some are not looked at.
  static constexpr size_t kMostUseful = kMostAskedAtOnce + kMostUnknown;

  // Learns the names of `ids` with a question that goes ahead of the request being handled. Ids that the broker does
  // not know are asked for again about once a second; beyond kMostUnknown of them, with each request.
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
