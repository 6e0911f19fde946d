#include "names/resolver_config.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/host_name.h"
#include "base/socket_address.h"
#include "base/text.h"

namespace kveil::names {
namespace {

using Words = std::vector<absl::string_view>;

Words WordsOf(absl::string_view line) {
  return absl::StrSplit(line.substr(0, line.find_first_of("#;")), absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
}

void TakeDomains(const Words& words, ResolverConfig& config) {
  config.domains.clear();  // the last line of them counts
  for (size_t i = 1; i < words.size() && config.domains.size() < ResolverConfig::kMostDomains; ++i) {
    std::string_view domain = ToStd(words[i]);
    if (domain.ends_with('.')) domain.remove_suffix(1);
    if (IsHostName(domain)) config.domains.emplace_back(domain);
  }
}

void TakeOptions(const Words& words, ResolverConfig& config) {
  constexpr absl::string_view kDots = "ndots:";
  for (const absl::string_view word : words) {
    int dots = 0;
    if (word.substr(0, kDots.size()) != kDots || !absl::SimpleAtoi(word.substr(kDots.size()), &dots)) continue;
    config.dots = std::clamp(dots, 0, ResolverConfig::kMostDots);
  }
}

}  // namespace

ResolverConfig ParseResolverConfig(std::string_view file) {
  ResolverConfig config;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(file), '\n')) {
    const Words words = WordsOf(line);
    if (words.size() < 2) continue;
    if (words[0] == "nameserver" && config.servers.size() < ResolverConfig::kMostServers) {
      const absl::StatusOr<SocketAddress> server = SocketAddress::Parse(ToStd(words[1]), 0);
      if (server.ok()) config.servers.push_back(server->AddressText());
    }
    if (words[0] == "search" || words[0] == "domain") TakeDomains(words, config);
    if (words[0] == "options") TakeOptions(words, config);
  }
  if (config.servers.empty()) config.servers.emplace_back("127.0.0.1");
  return config;
}

bool AsksServersFirst(std::string_view nsswitch) {
  bool first = false;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(nsswitch), '\n')) {
    const Words words = WordsOf(line);
    if (words.empty() || words[0] != "hosts:") continue;
    const auto files = std::find(words.begin(), words.end(), "files");
    const auto servers = std::find_if(words.begin(), words.end(),
                                      [](absl::string_view word) { return word == "dns" || word == "resolve"; });
    first = servers < files;
  }
  return first;
}

}  // namespace kveil::names
