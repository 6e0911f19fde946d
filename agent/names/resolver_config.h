// resolv.conf(5) and the line of nsswitch.conf(5) that is about hosts.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kveil::names {

struct ResolverConfig {
  // As the C libraries have it: no more name servers and search domains than these.
  static constexpr size_t kMostServers = 3;
  static constexpr size_t kMostDomains = 32;
  static constexpr int kMostDots = 15;

  std::vector<std::string> servers;  // addresses; where the file names none, the one on this host
  std::vector<std::string> domains;
  int dots = 1;  // a name with at least as many dots is looked up as it is before a domain is added
};

ResolverConfig ParseResolverConfig(std::string_view file);

// Whether name servers are asked before the hosts file is looked at.
bool AsksServersFirst(std::string_view nsswitch);

}  // namespace kveil::names
