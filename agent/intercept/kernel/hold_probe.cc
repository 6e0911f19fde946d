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

// Returns errno. System calls only: this runs in a forked child, which shares the parent's descriptors.
int ConnectFromNewNamespace(const SocketAddress& destination) {
  if (::unshare(CLONE_NEWNET) < 0) return errno;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  ifreq loopback = {.ifr_ifrn = {.ifrn_name = "lo"}, .ifr_ifru = {}};
  loopback.ifr_flags = IFF_UP;
  const bool connected =
      ::ioctl(fd, SIOCSIFFLAGS, &loopback) == 0 && ::connect(fd, destination.get(), destination.size()) == 0;
  const int error = connected ? 0 : errno;
  ::close(fd);
  return error;
}

}  // namespace

absl::Status RunHoldProbe(int cgroupFd, std::chrono::milliseconds limit) {
  const SocketAddress destination = ProbeDestination();
  absl::StatusOr<ChildProcess> child =
      ChildProcess::Start(cgroupFd, [&destination] { return ConnectFromNewNamespace(destination); });
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
