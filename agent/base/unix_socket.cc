// Small steps with Unix sockets.
#include "base/unix_socket.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/text.h"

namespace kveil {

absl::StatusOr<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        StrCat("socket path of ", path.size(), " bytes, expected 1 to ", sizeof(address.sun_path) - 1, ": ", path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

uint32_t PeerUid(int socket) {
  constexpr uint32_t kOverflowUser = 65534;
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.uid : kOverflowUser;
}

int PeerPid(int socket) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

bool PeerIsAllowed(int socket, int group) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  if (peer.uid == 0) return true;
  if (group < 0) return false;
  if (peer.gid == static_cast<gid_t>(group)) return true;

  std::vector<gid_t> groups(64);
  size = groups.size() * sizeof(gid_t);
  int result = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  if (result != 0 && errno == ERANGE) {  // the kernel wrote the size that it needs
    groups.resize(size / sizeof(gid_t));
    result = ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size);
  }
  if (result != 0) return false;
  groups.resize(size / sizeof(gid_t));
  return std::find(groups.begin(), groups.end(), static_cast<gid_t>(group)) != groups.end();
}

bool SendMessage(int socket, std::string_view text, int fd, const sockaddr_un* to, socklen_t toSize) {
  iovec part = {const_cast<char*>(text.data()), text.size()};
  msghdr header = {};
  header.msg_name = const_cast<sockaddr_un*>(to);
  header.msg_namelen = toSize;
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fd))] = {};
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    cmsghdr* const attached = CMSG_FIRSTHDR(&header);
    attached->cmsg_level = SOL_SOCKET;
    attached->cmsg_type = SCM_RIGHTS;
    attached->cmsg_len = CMSG_LEN(sizeof(fd));
    std::memcpy(CMSG_DATA(attached), &fd, sizeof(fd));
  }
  return ::sendmsg(socket, &header, MSG_NOSIGNAL) >= 0;
}

}  // namespace kveil
