// Which key-encryption key (KEK) the key of a topic or a cluster is made under: `seal.kek`.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace kveil::config {
struct KeysConfig;
}

namespace kveil::policy {

class Policy;

struct KekRule {
  std::string provider;  // a name in `keys.keks` of the agent's configuration
  std::string key;       // the key's name there, with kTopicPlace and kClusterPlace
  std::string Text() const { return provider + "/" + key; }
};

inline constexpr std::string_view kTopicPlace = "${topic}";
inline constexpr std::string_view kClusterPlace = "${cluster}";
inline constexpr size_t kLongestKekKey = 256;

// What is wrong with a key's name, as "a name of ..."; empty: nothing.
std::string WrongKekKey(std::string_view key);

// The key's name for a topic of a cluster.
std::string KekKeyOf(const KekRule& rule, std::string_view cluster, std::string_view topic);

// kInvalidArgument: an entry names a provider that is none of these.
absl::Status CheckKekProviders(const Policy& policy, absl::Span<const std::string> providers);

// Those that the configuration names.
std::vector<std::string> KekProvidersOf(const config::KeysConfig& keys);

}  // namespace kveil::policy
