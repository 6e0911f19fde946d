// The configured targets in the form in which the kernel looks them up: one entry per distinct prefix, with every port
// range that applies to it. Pure data, no system calls.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/socket_address.h"
#include "config/config.h"
#include "intercept/kernel/endpoint.h"

namespace kveil::intercept {

class TargetTable {
 public:
  struct Prefix {
    uint16_t family = 0;  // KVEIL_FAMILY_...
    uint8_t length = 0;
    AddressBytes address = {};
    kveil_port_ranges ranges = {};
  };

  // Each prefix has its own ranges first, then those of the shorter prefixes that cover it, longest first; among
  // equals, in the order of the configuration. Every table also has the agent's probe destination. kInvalidArgument:
  // more than KVEIL_MAX_RANGES ranges for a prefix, or more than KVEIL_MAX_PREFIXES prefixes of a family.
  static absl::StatusOr<TargetTable> Compile(absl::Span<const config::Target> targets);

  absl::Span<const Prefix> prefixes() const { return prefixes_; }

  // The target that the kernel half will find; KVEIL_PROBE_TARGET for the probe's destination.
  std::optional<uint16_t> Find(const SocketAddress& address) const;

 private:
  std::vector<Prefix> prefixes_;  // longest first
};

// A cluster as a learned broker stores it (FNV-1a): a target's index does not outlive its configuration.
uint32_t ClusterHash(std::string_view cluster);

}  // namespace kveil::intercept
