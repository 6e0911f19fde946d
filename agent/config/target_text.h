// Parses the text forms of a target: its network and its ports.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "config/intercept_config.h"

namespace kveil::config {

struct Network {
  SocketAddress address;  // port 0
  uint8_t prefixLength = 0;
};

// "10.0.0.0/8", "fd00::/8"; without a length, one address. kInvalidArgument says what is wrong.
absl::StatusOr<Network> ParseNetwork(std::string_view text);

// "9092", "9092-9094", "9092-9094,19092". The result is ascending; ranges that touch are joined. nullopt: anything
// else.
std::optional<std::vector<PortRange>> ParsePorts(std::string_view text);

// "127.0.0.1:9464", "[::1]:9464". nullopt: anything else.
std::optional<SocketAddress> ParseEndpoint(std::string_view text);

}  // namespace kveil::config
