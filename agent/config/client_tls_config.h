// What the agent does with applications that speak TLS to a cluster's brokers: `clusters.NAME.clientTls`.
#pragma once

namespace kveil::config {

struct ClientTlsConfig {
  enum class Mode {
    kRefuse,  // their connections end
    kPass,    // they are relayed as they are: the agent sees no records, and protects none
  };
  Mode mode = Mode::kRefuse;
};

class JsonValue;

ClientTlsConfig ReadClientTls(const JsonValue& value);

}  // namespace kveil::config
