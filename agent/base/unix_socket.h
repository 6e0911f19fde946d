// Small steps with Unix sockets.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kveil {

// kInvalidArgument when the path does not fit sun_path (107 bytes).
absl::StatusOr<sockaddr_un> UnixAddress(const std::string& path);

// Whether the process at the other end of a connected socket is root or in the group (its own, or a supplementary one,
// as they were when it connected: SO_PEERCRED and SO_PEERGROUPS, unix(7)). `group` -1: only root.
bool PeerIsAllowed(int socket, int group);

// Sends one message, with a duplicate of a descriptor if `fd` is not -1 (SCM_RIGHTS, unix(7)). `to`: nullptr for a
// connected socket. False: errno says why.
bool SendMessage(int socket, std::string_view text, int fd, const sockaddr_un* to = nullptr, socklen_t toSize = 0);

// Whose process that was. The overflow user (65534) when the kernel does not say.
uint32_t PeerUid(int socket);

// Its process id as this process sees it. 0: it is in no PID namespace that this process sees.
int PeerPid(int socket);

}  // namespace kveil
