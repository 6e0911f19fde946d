// A root key at AWS KMS: `keys.root.awsKms`.
#pragma once

#include <string>

#include "config/named_key.h"

namespace kveil::config {

struct AwsConfig {
  std::string key;          // the ARN of a key or an alias, the id of a key, or "alias/NAME"
  std::string region;       // "eu-central-1"
  std::string endpoint;     // "https://kms.eu-central-1.amazonaws.com"; http only on loopback
  std::string stsEndpoint;  // of the Security Token Service, likewise
  std::string ca;           // path of a PEM file; empty: the system's authorities
};

class JsonValue;

AwsConfig ReadAwsKms(const JsonValue& value, KeyNamedBy namedBy);

}  // namespace kveil::config
