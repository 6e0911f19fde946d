// Asks the broker how large a batch each of its topics accepts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "guard/learn/topic_limits.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// One per connection.
class LimitLookup {
 public:
  LimitLookup(TopicLimits& limits, const proxy::ConnectionInfo& connection)
      : limits_(limits), connection_(connection) {}

  bool Knows(std::string_view topic) const { return Find(topic).has_value(); }
  // Returns Kafka's default while the limit is not known.
  TopicLimits::Limit Of(std::string_view topic) const { return Find(topic).value_or(TopicLimits::Limit()); }

  // The broker took a batch of this many bytes, which was sent to find out.
  void Took(std::string_view topic, size_t bytes) {
    limits_.Took(connection_, topic, bytes, TopicLimits::Clock::now());
  }

  // The most topics that are asked for at once. The limits of further ones stay unknown, as if the broker did not tell.
  static constexpr size_t kMostAskedAtOnce = 1000;

  // Learns the limits of `topics` with a question that goes ahead of the request being handled. If the broker does not
  // tell (the principal may not describe the topic), Kafka's default counts.
  io::Task<void> Learn(std::vector<std::string> topics, proxy::Upstream& upstream);

 private:
  std::optional<TopicLimits::Limit> Find(std::string_view topic) const {
    return limits_.Find(connection_, topic, TopicLimits::Clock::now());
  }

  TopicLimits& limits_;
  const proxy::ConnectionInfo& connection_;
};

}  // namespace kveil::guard
