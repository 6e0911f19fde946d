// Which key-encryption key (KEK) the key of a topic or a cluster is made under, or the keys of users are mixed with:
// `seal.kek`.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace kveil::config {
struct KekProviderConfig;
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

// The key's name for a topic of a cluster. Empty, which is no key's name: it has the topic's name in it, and `topic` is
// none. A client may send whatever it likes as one, and with a slash in it this would be another key.
std::string KekKeyOf(const KekRule& rule, std::string_view cluster, std::string_view topic);

// kInvalidArgument: an entry names a provider that is none of these, or keys that can have no such name there.
absl::Status CheckKekProviders(const Policy& policy, absl::Span<const config::KekProviderConfig> providers);

}  // namespace kveil::policy
