#include "policy/kek_rule.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "config/config.h"
#include "config/json_value.h"
#include "policy/policy.h"

namespace kveil::policy {
namespace {

// Puts `text` where the place is, which is there once at most.
void Fill(std::string& key, std::string_view place, std::string_view text) {
  const size_t found = key.find(place);
  if (found != std::string::npos) key.replace(found, place.size(), text);
}

}  // namespace

// The places are filled with what has these characters, too, and no slash.
std::string WrongKekKey(std::string_view key) {
  std::string rest(key);
  for (const std::string_view place : {kTopicPlace, kClusterPlace}) Fill(rest, place, "x");
  const bool isGood =
      !rest.empty() && key.size() <= kLongestKekKey && std::all_of(rest.begin(), rest.end(), [](unsigned char c) {
        return absl::ascii_isalnum(c) || std::string_view("._:/-").find(static_cast<char>(c)) != std::string_view::npos;
      });
  if (isGood) return "";
  return StrCat("a key's name of at most ", kLongestKekKey,
                " letters, digits, '.', '_', '-', ':' and '/', with \"${topic}\" and \"${cluster}\" once at most");
}

std::string KekKeyOf(const KekRule& rule, std::string_view cluster, std::string_view topic) {
  std::string key = rule.key;
  // In this order: the topic is as a client has named it, and may have a place in its name.
  Fill(key, kClusterPlace, cluster);
  Fill(key, kTopicPlace, topic);
  return key;
}

std::vector<std::string> KekProvidersOf(const config::KeysConfig& keys) {
  std::vector<std::string> names;
  for (const config::KekProviderConfig& provider : keys.kekProviders) names.push_back(provider.name);
  return names;
}

absl::Status CheckKekProviders(const Policy& policy, absl::Span<const std::string> providers) {
  const std::vector<std::string_view> names(providers.begin(), providers.end());
  for (const TopicPolicy& topic : policy.topics()) {
    if (!topic.seal.has_value() || !topic.seal->kek.has_value()) continue;
    const std::string& provider = topic.seal->kek->provider;
    if (std::find(names.begin(), names.end(), provider) != names.end()) continue;
    const std::string_view nearest = config::NearestName(provider, names);
    const std::string hint = nearest.empty() ? "" : StrCat(", did you mean \"", nearest, "\"?");
    return absl::InvalidArgumentError(StrCat(topic.file, ": seal.kek of the entry ",
                                             topic.kind == SelectorKind::kUnselected ? "unselected" : "\"",
                                             topic.selector, topic.kind == SelectorKind::kUnselected ? "" : "\"",
                                             ": this agent has no provider \"", provider, "\" in keys.keks", hint));
  }
  return absl::OkStatus();
}

}  // namespace kveil::policy
