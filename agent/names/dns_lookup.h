// Asks name servers for the addresses of names (RFC 1035), with c-ares.
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
  // Makes a non-blocking socket in the namespace from which to ask.
  std::function<absl::StatusOr<UniqueFd>(int family, int type, int protocol)> makeSocket;
  std::chrono::steady_clock::time_point deadline;
  std::function<bool()> mustStop;  // polled several times per second
};

using Answer = absl::StatusOr<Addresses>;

// Blocks until the deadline at most. The answers are in the order of the names. A name fails as a whole if no server
// answers for its IPv4 or its IPv6 addresses in time, because the workload may learn them later. kNotFound: it has no
// address. kUnavailable: no server answered.
std::vector<Answer> LookUpInDns(absl::Span<const std::string> names, const DnsOptions& options);

}  // namespace kveil::names
