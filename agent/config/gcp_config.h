// A root key at Google Cloud KMS: `keys.root.gcpKms`.
#pragma once

#include <string>

#include "config/named_key.h"

namespace kveil::config {

struct GcpConfig {
  std::string key;              // "projects/P/locations/L/keyRings/R/cryptoKeys/K"
  std::string endpoint;         // "https://cloudkms.googleapis.com"; http only on loopback
  std::string credentialsFile;  // path; empty: the metadata server says who the agent is
  std::string ca;               // path of a PEM file; empty: the system's authorities
};

class JsonValue;

GcpConfig ReadGcpKms(const JsonValue& value, KeyNamedBy namedBy);

}  // namespace kveil::config
