// A topic that the consents of a keyspace come from.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "config/json_value.h"

namespace kveil::config {

struct ConsentTopicConfig {
  // Paths of PEM files; empty: none, or the system's.
  struct Tls {
    std::string ca, certificate, key, crl;
  };
  struct Sasl {
    std::string mechanism;  // as Kafka names it
    std::string username;
    std::string passwordFile;
  };
  std::string keyspace;
  std::string topic;
  std::vector<std::string> bootstrapServers;  // HOST:PORT
  std::string as = "text";                    // how the keys of its records are written, as in policies
  std::string cluster;                        // whose tls counts if there is none here; empty: none
  std::optional<Tls> tls;                     // nullopt: plain TCP
  std::optional<Sasl> sasl;
  std::chrono::milliseconds staleAfter = std::chrono::hours(1);
};

// At most 8, each of another keyspace. Reports errors at their places.
std::vector<ConsentTopicConfig> ReadConsentTopics(const JsonValue& value);

}  // namespace kveil::config
