// Where keys and the registry are, and the agent's files beside them: `keys`.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/kek_config.h"

namespace kveil::config {

// A PostgreSQL connection string, taken apart.
struct PostgresConfig {
  struct Server {
    std::string host;     // a name, an address, or the folder of a Unix socket
    std::string address;  // of the host; empty: look it up
    std::string port;
  };
  std::vector<Server> servers;  // at least one
  // The rest, as libpq names them. Has no password.
  std::vector<std::pair<std::string, std::string>> parameters;
};

struct KeysConfig {
  std::string rootKeyFile = "/var/lib/kveil/root.key";  // empty: the root key is elsewhere
  ProviderConfig rootKey;                               // there
  std::vector<KekProviderConfig> kekProviders;
  std::string registryPath = "/var/lib/kveil/registry.db";
  std::optional<PostgresConfig> registryPostgres;  // instead of registryPath
  std::chrono::milliseconds cacheTtl = std::chrono::seconds(60);
  size_t newUsersPerSecond = 10000;                                        // whose keys are made, per workload
  std::chrono::milliseconds turnEpochsEvery = std::chrono::hours(7 * 24);  // 0: only when told to
};

// Where the receipts of erasures are: beside the registry's file, or beside the root key's when the registry is
// elsewhere.
std::string ReceiptsFolder(const KeysConfig& keys);

// The file that remembers which version of signed policies was accepted: beside the receipts.
std::string AcceptedPoliciesFile(const KeysConfig& keys);

// Where policies are that were pulled: beside that file.
std::string PulledPoliciesFolder(const KeysConfig& keys);

// Where the agent may write, beside its keys: without a slash at the end.
std::string StateFolder(const KeysConfig& keys);

class JsonValue;

void ReadKeys(const JsonValue& value, KeysConfig& keys);

}  // namespace kveil::config
