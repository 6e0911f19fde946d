#include "policy/kek_rule.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/kek_config.h"
#include "config/topic_name.h"
#include "keys/names/key_names.h"
#include "policy/policy.h"

namespace kveil::policy {
namespace {

// Puts `text` where the place is, which is there once at most.
void Fill(std::string& key, std::string_view place, std::string_view text) {
  const size_t found = key.find(place);
  if (found != std::string::npos) key.replace(found, place.size(), text);
}

// The shortest name of a topic that the entry selects, as far as its kind says it.
std::string ExampleOf(const TopicPolicy& topic) {
  if (topic.kind == SelectorKind::kName) return topic.selector;
  return topic.kind == SelectorKind::kPrefix ? topic.selector + "x" : "x";
}

}  // namespace

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
  if (key.find(kTopicPlace) != std::string::npos && !config::IsTopicName(topic)) return "";
  Fill(key, kClusterPlace, cluster);
  Fill(key, kTopicPlace, topic);
  return key;
}

absl::Status CheckKekProviders(const Policy& policy, absl::Span<const config::KekProviderConfig> providers) {
  std::vector<std::string_view> names;
  for (const config::KekProviderConfig& provider : providers) names.push_back(provider.name);
  for (const TopicPolicy& topic : policy.topics()) {
    if (!topic.seal.has_value() || !topic.seal->kek.has_value()) continue;
    const KekRule& kek = *topic.seal->kek;
    const std::string_view quote = topic.kind == SelectorKind::kUnselected ? "" : "\"";
    const std::string where =
        StrCat(topic.file, ": seal.kek of the entry ", quote,
               topic.kind == SelectorKind::kUnselected ? "unselected" : topic.selector, quote, ": ");
    const auto provider = std::find(names.begin(), names.end(), kek.provider);
    if (provider == names.end()) {
      const std::string_view nearest = config::NearestName(kek.provider, names);
      const std::string hint = nearest.empty() ? "" : StrCat(", did you mean \"", nearest, "\"?");
      return absl::InvalidArgumentError(
          StrCat(where, "this agent has no provider \"", kek.provider, "\" in keys.keks", hint));
    }
    const std::string example = KekKeyOf(kek, "x", ExampleOf(topic));
    if (!keys::CanBeKeyOf(providers[static_cast<size_t>(provider - names.begin())].provider, example)) {
      return absl::InvalidArgumentError(
          StrCat(where, "no key of the provider \"", kek.provider, "\" can have a name such as \"", example, "\""));
    }
  }
  return absl::OkStatus();
}

}  // namespace kveil::policy
