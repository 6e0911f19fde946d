// Resets connections to the targets that are older than the agent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "base/socket_address.h"

namespace kveil::intercept {

// Resets the TCP connections in the namespace of `diagSocketFd` (AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG) whose peer
// satisfies `isTarget` and whose socket was made in a cgroup that satisfies `isIntercepted`, which is asked once per
// cgroup. Returns how many. kUnimplemented: the kernel lacks CONFIG_INET_DIAG_DESTROY. An error of `isIntercepted` is
// returned once all others have been reset.
absl::StatusOr<size_t> ResetConnections(int diagSocketFd, const std::function<bool(const SocketAddress&)>& isTarget,
                                        const std::function<absl::StatusOr<bool>(uint64_t cgroupId)>& isIntercepted);

}  // namespace kveil::intercept
