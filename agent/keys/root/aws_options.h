// Where a key of AWS KMS is. As in agent.json's `keys.root.awsKms`.
#pragma once

#include <stdlib.h>

#include <chrono>
#include <functional>
#include <string>

namespace kveil::keys {

struct AwsOptions {
  std::string key;          // the ARN of a key or of an alias, the id of a key, or "alias/NAME"
  std::string region;       // "eu-central-1"
  std::string endpoint;     // of KMS: "https://kms.eu-central-1.amazonaws.com", without a path
  std::string stsEndpoint;  // of the Security Token Service, likewise
  std::string ca;           // a PEM file; empty: the authorities of the system

  // AWS's own environment variables say where credentials are. nullptr: it is not set.
  std::function<const char*(const char*)> environment = [](const char* name) { return ::getenv(name); };

  // Credentials that are refused are not replaced by others more often than this: a policy that denies would otherwise
  // have the agent ask for new ones all the time.
  std::chrono::milliseconds replacePause = std::chrono::seconds(10);
  // Credentials are not renewed more often than this, however soon they end.
  std::chrono::milliseconds leastAge = std::chrono::seconds(60);
};

}  // namespace kveil::keys
