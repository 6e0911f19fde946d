// The child process in its own namespace.
#include "intercept/kernel/hold_probe.h"

#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "intercept/kernel/endpoint.h"
#include "intercept/system/child_process.h"

namespace kveil::intercept {
namespace {

// System calls only: these run in a forked child.

// Enters a new network namespace, and returns a socket there; -1 with errno. Its loopback device is up.
int SocketInNewNamespace(int namespaces) {
  if (::unshare(namespaces) < 0) return -1;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ifreq loopback = {.ifr_ifrn = {.ifrn_name = "lo"}, .ifr_ifru = {}};
  loopback.ifr_flags = IFF_UP;
  return fd < 0 || ::ioctl(fd, SIOCSIFFLAGS, &loopback) == 0 ? fd : -1;
}

// Returns errno.
int ConnectFromNewNamespace(const SocketAddress& destination) {
  int fd = SocketInNewNamespace(CLONE_NEWNET);
  // Without CAP_NET_ADMIN, which an agent does not need. It is there in a user namespace of one's own.
  if (fd < 0 && errno == EPERM) fd = SocketInNewNamespace(CLONE_NEWUSER | CLONE_NEWNET);
  return fd >= 0 && ::connect(fd, destination.get(), destination.size()) == 0 ? 0 : errno;
}

}  // namespace

absl::Status RunHoldProbe(int cgroupFd, std::chrono::milliseconds limit) {
  const SocketAddress destination = ProbeDestination();
  absl::StatusOr<ChildProcess> child = ChildProcess::Start(
      cgroupFd, [&destination] { return ConnectFromNewNamespace(destination); },
      ChildProcess::Descriptors::kOwn);  // it is killed at the limit
  if (!child.ok()) return child.status();
  pollfd wait = {.fd = child->pidFd(), .events = POLLIN, .revents = 0};
  if (::poll(&wait, 1, static_cast<int>(limit.count())) != 1) {
    return absl::DeadlineExceededError("the first connect in a new namespace had no outcome in time");
  }
  const absl::StatusOr<int> error = child->Wait();
  if (!error.ok()) return error.status();
  if (*error == 0) return absl::OkStatus();
  return absl::UnavailableError(
      StrCat("the first connect in a new namespace was not held until the agent served it: ", std::strerror(*error)));
}

}  // namespace kveil::intercept
