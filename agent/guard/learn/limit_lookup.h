// Asks the broker how large a batch its topics take.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "guard/learn/topic_limits.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// One a connection.
class LimitLookup {
 public:
  LimitLookup(TopicLimits& limits, const proxy::ConnectionInfo& connection)
      : limits_(limits), connection_(connection) {}

  bool Knows(std::string_view topic) const { return Find(topic).has_value(); }
  // Kafka's default while it is not known.
  TopicLimits::Limit Of(std::string_view topic) const { return Find(topic).value_or(TopicLimits::Limit()); }

  // The broker took a batch of that many bytes that was sent to find out.
  void Took(std::string_view topic, size_t bytes) {
    limits_.Took(connection_, topic, bytes, TopicLimits::Clock::now());
  }

  // No more topics are asked for at once. Those beyond stay unknown, as if the broker did not tell.
  static constexpr size_t kMostAskedAtOnce = 1000;

  // Learns the limits of `topics`, ahead of the request that is being handled. What the broker does not tell (to a
  // principal that may not describe the topic) counts as the default.
  io::Task<void> Learn(std::vector<std::string> topics, proxy::Upstream& upstream);

 private:
  std::optional<TopicLimits::Limit> Find(std::string_view topic) const {
    return limits_.Find(connection_, topic, TopicLimits::Clock::now());
  }

  TopicLimits& limits_;
  const proxy::ConnectionInfo& connection_;
};

}  // namespace kveil::guard
