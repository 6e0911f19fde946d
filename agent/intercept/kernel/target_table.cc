// Compiles the configured targets into prefixes with port ranges.
#include "intercept/kernel/target_table.h"

#include <algorithm>

#include "base/text.h"
#include "intercept/kernel/target_coverage.h"

namespace kveil::intercept {
namespace {

bool Covers(const TargetTable::Prefix& prefix, uint16_t family, const AddressBytes& address) {
  if (prefix.family != family) return false;
  const size_t wholeBytes = prefix.length / 8;
  if (!std::equal(address.begin(), address.begin() + wholeBytes, prefix.address.begin())) return false;
  const int restBits = prefix.length % 8;
  return restBits == 0 || ((address[wholeBytes] ^ prefix.address[wholeBytes]) >> (8 - restBits)) == 0;
}

bool SamePrefix(const TargetTable::Prefix& a, const TargetTable::Prefix& b) {
  return a.family == b.family && a.length == b.length && a.address == b.address;
}

absl::Status AddRange(TargetTable::Prefix& prefix, const kveil_port_range& range) {
  if (prefix.ranges.count == KVEIL_MAX_RANGES) {
    kveil_endpoint endpoint = {};
    endpoint.family = prefix.family;
    std::copy(prefix.address.begin(), prefix.address.end(), endpoint.address);
    return absl::InvalidArgumentError(StrCat("more than ", int{KVEIL_MAX_RANGES}, " port ranges apply to ",
                                             ToSocketAddress(endpoint).AddressText(), "/", prefix.length));
  }
  prefix.ranges.ranges[prefix.ranges.count++] = range;
  return absl::OkStatus();
}

TargetTable::Prefix PrefixOf(const SocketAddress& network, uint8_t length) {
  const kveil_endpoint endpoint = ToEndpoint(network);
  return {.family = endpoint.family, .length = length, .address = ToBytes(endpoint)};
}

absl::Status AddTo(std::vector<TargetTable::Prefix>& prefixes, const TargetTable::Prefix& wanted,
                   const kveil_port_range& range) {
  auto found = std::find_if(prefixes.begin(), prefixes.end(),
                            [&](const TargetTable::Prefix& prefix) { return SamePrefix(prefix, wanted); });
  if (found == prefixes.end()) found = prefixes.insert(prefixes.end(), wanted);
  return AddRange(*found, range);
}

// Each distinct prefix once, with the ranges that were configured for just that prefix.
absl::StatusOr<std::vector<TargetTable::Prefix>> DistinctPrefixes(absl::Span<const config::Target> targets) {
  std::vector<TargetTable::Prefix> prefixes;
  absl::Status added =
      AddTo(prefixes, PrefixOf(ProbeDestination(), 32),
            {.first = KVEIL_PROBE_PORT, .last = KVEIL_PROBE_PORT, .target = KVEIL_PROBE_TARGET, .padding = 0});
  for (size_t i = 0; i < targets.size(); ++i) {
    for (const config::PortRange& ports : targets[i].ports) {
      added.Update(AddTo(prefixes, PrefixOf(targets[i].network, targets[i].prefixLength),
                         {.first = ports.first, .last = ports.last, .target = static_cast<uint16_t>(i), .padding = 0}));
    }
  }
  if (!added.ok()) return added;
  return prefixes;
}

}  // namespace

absl::StatusOr<TargetTable> TargetTable::Compile(absl::Span<const config::Target> targets) {
  if (targets.size() >= KVEIL_PROBE_TARGET) return absl::InvalidArgumentError("too many targets");
  absl::StatusOr<std::vector<Prefix>> prefixes = DistinctPrefixes(targets);
  if (!prefixes.ok()) return prefixes.status();
  for (const uint16_t family : {KVEIL_FAMILY_V4, KVEIL_FAMILY_V6}) {
    if (std::count_if(prefixes->begin(), prefixes->end(), [family](const Prefix& p) { return p.family == family; }) >
        KVEIL_MAX_PREFIXES) {
      return absl::InvalidArgumentError(StrCat("more than ", int{KVEIL_MAX_PREFIXES}, " networks as targets"));
    }
  }
  std::stable_sort(prefixes->begin(), prefixes->end(),
                   [](const Prefix& a, const Prefix& b) { return a.length > b.length; });
  TargetTable table;
  for (const Prefix& own : *prefixes) {
    Prefix whole = own;
    for (const Prefix& other : *prefixes) {
      if (other.length >= own.length || !Covers(other, own.family, own.address)) continue;
      for (uint32_t i = 0; i < other.ranges.count; ++i) {
        const absl::Status added = AddRange(whole, other.ranges.ranges[i]);
        if (!added.ok()) return added;
      }
    }
    table.prefixes_.push_back(whole);
  }
  return table;
}

std::optional<uint16_t> TargetTable::Find(const SocketAddress& address) const {
  const kveil_endpoint endpoint = ToEndpoint(address);
  for (const Prefix& prefix : prefixes_) {
    if (!Covers(prefix, endpoint.family, ToBytes(endpoint))) continue;
    for (uint32_t i = 0; i < prefix.ranges.count; ++i) {
      const kveil_port_range& range = prefix.ranges.ranges[i];
      if (range.first <= endpoint.port && endpoint.port <= range.last) return range.target;
    }
    return std::nullopt;
  }
  return std::nullopt;
}

bool CoversAll(absl::Span<const config::Target> targets, uint16_t port) {
  bool v4 = false, v6 = false;
  for (const config::Target& target : targets) {
    if (target.prefixLength != 0 || !target.Has(port)) continue;
    (target.network.family() == AF_INET ? v4 : v6) = true;
  }
  return v4 && v6;
}

uint32_t ClusterHash(std::string_view cluster) {
  uint32_t hash = 2166136261u;
  for (const char c : cluster) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

}  // namespace kveil::intercept
