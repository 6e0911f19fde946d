// Small steps with Unix sockets.
#pragma once

#include <sys/un.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace kveil {

// kInvalidArgument when the path does not fit sun_path (107 bytes).
absl::StatusOr<sockaddr_un> UnixAddress(const std::string& path);

// Whether the process at the other end of a connected socket is root or in the group (its own, or a supplementary one,
// as they were when it connected: SO_PEERCRED and SO_PEERGROUPS, unix(7)). `group` -1: only root.
bool PeerIsAllowed(int socket, int group);

// Whose process that was. The overflow user (65534) when the kernel does not say.
uint32_t PeerUid(int socket);

}  // namespace kveil
