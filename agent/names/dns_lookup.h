// Asks name servers for the addresses of names (RFC 1035), by c-ares.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "names/hosts_file.h"
#include "names/resolver_config.h"

namespace kveil::names {

struct DnsOptions {
  ResolverConfig config;
  uint16_t port = 53;  // of the name servers
  // A non-blocking socket in the namespace from which the name servers are asked.
  std::function<absl::StatusOr<UniqueFd>(int family, int type, int protocol)> makeSocket;
  std::chrono::steady_clock::time_point deadline;
  std::function<bool()> mustStop;  // looked at several times a second
};

using Answer = absl::StatusOr<Addresses>;

// Blocks, until the deadline at most. A name whose IPv4 or IPv6 addresses nobody told in time has failed as a whole:
// the workload may be told them a moment later. kNotFound: it has no address; kUnavailable: nobody told.
std::vector<Answer> LookUpInDns(absl::Span<const std::string> names, const DnsOptions& options);

}  // namespace kveil::names
