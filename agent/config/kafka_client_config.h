// How the agent reaches brokers of its own accord, as the client of a topic.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/json_value.h"

namespace kveil::config {

struct KafkaClientConfig {
  // Paths of PEM files; empty: none, or the system's.
  struct Tls {
    std::string ca, certificate, key, crl;
  };
  struct Sasl {
    std::string mechanism;  // as Kafka names it
    std::string username;
    std::string passwordFile;
  };
  std::vector<std::string> bootstrapServers;  // HOST:PORT
  std::string cluster;                        // whose tls counts if there is none here; empty: none
  std::optional<Tls> tls;                     // nullopt: plain TCP
  std::optional<Sasl> sasl;
};

// Of an object that may have the keys bootstrapServers, which is required, cluster, tls and sasl. Reports errors at
// their places.
KafkaClientConfig ReadKafkaClient(const JsonObject& object);

// Of a required key: a topic's name.
std::string ReadTopicName(const JsonObject& object, std::string_view key);

}  // namespace kveil::config
