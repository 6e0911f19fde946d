// A topic that the consents of a keyspace come from.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "config/json_value.h"
#include "config/kafka_client_config.h"

namespace kveil::config {

struct ConsentTopicConfig {
  std::string keyspace;
  std::string topic;
  KafkaClientConfig client;
  std::string as = "text";  // how the keys of its records are written, as in policies
  std::chrono::milliseconds staleAfter = std::chrono::hours(1);
};

// At most 8, each of another keyspace. Reports errors at their places.
std::vector<ConsentTopicConfig> ReadConsentTopics(const JsonValue& value);

}  // namespace kveil::config
