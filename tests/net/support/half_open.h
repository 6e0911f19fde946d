// Connects that are never completed, which anybody can make.
#pragma once

#include <cstddef>
#include <string>

#include "base/socket_address.h"
#include "base/unique_fd.h"

namespace kveil::nettest {

void AllowManyDescriptors();

// Connects without ever completing: the answer to the SYN is dropped for its TTL, which needs no right. errno is what
// connect has left.
UniqueFd BeginHalfOpen(const SocketAddress& address);

// The same with a socket that is there already.
void BeginHalfOpen(int fd, const SocketAddress& address);

// The same in two steps: connect() sends nothing, the SYN leaves with the first send(). That needs no right either.
UniqueFd PrepareHalfOpen(const SocketAddress& address);

// For use inside of a workload: has half-open connects until it is killed.
std::string HoldHalfOpen(const SocketAddress& address, size_t count);

}  // namespace kveil::nettest
