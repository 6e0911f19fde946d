// Reads a hosts file (hosts(5)): addresses and their names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/socket_address.h"

namespace kveil::names {

using Addresses = std::vector<SocketAddress>;  // with port 0

// A name in the form in which names are compared: lower case, without a dot at the end.
std::string Comparable(std::string_view name);

// Adds the file's addresses to those keys of `wanted`, comparable names, that it has. Skips malformed lines, as every
// reader of this file does.
void FindInHosts(std::string_view file, absl::flat_hash_map<std::string, Addresses>& wanted);

}  // namespace kveil::names
