// Parses resolv.conf(5), and the line of nsswitch.conf(5) about hosts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kveil::names {

struct ResolverConfig {
  // The limits of the C libraries.
  static constexpr size_t kMostServers = 3;
  static constexpr size_t kMostDomains = 32;
  static constexpr int kMostDots = 15;

  std::vector<std::string> servers;  // addresses; 127.0.0.1 if the file names none
  std::vector<std::string> domains;
  int dots = 1;  // a name with at least as many dots is first looked up without a domain
};

ResolverConfig ParseResolverConfig(std::string_view file);

// Whether name servers are asked before the hosts file.
bool AsksServersFirst(std::string_view nsswitch);

}  // namespace kveil::names
