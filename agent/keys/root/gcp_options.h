// Where a key of Google Cloud KMS is, and how the agent proves who it is. As in agent.json's `keys.root.gcpKms`.
#pragma once

#include <chrono>
#include <string>

namespace kveil::keys {

struct GcpOptions {
  std::string key;              // "projects/P/locations/L/keyRings/R/cryptoKeys/K"
  std::string endpoint;         // "https://cloudkms.googleapis.com", without a path
  std::string credentialsFile;  // of a service account, or of workload identity federation; empty: the metadata server
  std::string ca;               // a PEM file; empty: the authorities of the system

  // The metadata server, the same on every virtual machine and GKE node.
  std::string metadata = "http://169.254.169.254";

  // As CredentialCache has them.
  std::chrono::milliseconds replacePause = std::chrono::seconds(10);
  std::chrono::milliseconds leastAge = std::chrono::seconds(60);
};

}  // namespace kveil::keys
