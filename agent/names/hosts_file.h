// A hosts file (hosts(5)): addresses and the names that they have.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/socket_address.h"

namespace kveil::names {

using Addresses = std::vector<SocketAddress>;  // with port 0

// A name as it is compared: in small letters, without the dot that it may end with.
std::string Comparable(std::string_view name);

// The addresses of those keys of `wanted`, comparable names, that the file has. A line that is none is skipped, as
// every reader of this file does.
void FindInHosts(std::string_view file, absl::flat_hash_map<std::string, Addresses>& wanted);

}  // namespace kveil::names
