// The probe's child process and the wait for its connection.
#include "intercept/kernel/probe.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "intercept/kernel/endpoint.h"
#include "intercept/kernel/listeners.h"
#include "intercept/system/child_process.h"

namespace kveil::intercept {
namespace {

bool BindToReservedPort(int fd) {
  for (uint16_t port = kFirstReservedPort; port <= kLastReservedPort; ++port) {
    const SocketAddress own = SocketAddress::V4(htonl(INADDR_LOOPBACK), port);
    if (::bind(fd, own.get(), own.size()) == 0) return true;
  }
  return false;
}

// If one process has bound every port that the kernel hands out, the probe brings one that only privileged processes
// may bind.
bool Connect(int fd, const SocketAddress& destination) {
  if (::connect(fd, destination.get(), destination.size()) == 0) return true;
  return errno == EADDRNOTAVAIL && BindToReservedPort(fd) && ::connect(fd, destination.get(), destination.size()) == 0;
}

// Connects and holds the connection until the parent ends this process. Returns errno.
int ConnectAndHold(const SocketAddress& destination) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || !Connect(fd, destination)) return errno;
  char byte;
  // The agent closes a probe once it has seen it.
  while (::recv(fd, &byte, 1, 0) > 0) {
  }
  return 0;
}

}  // namespace

Probe::Probe() : arrived_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void Probe::Arrived() {
  const uint64_t one = 1;
  (void)!::write(arrived_.get(), &one, sizeof(one));
}

absl::Status Probe::Run(int cgroupFd, std::chrono::milliseconds limit) {
  uint64_t earlier;
  (void)!::read(arrived_.get(), &earlier, sizeof(earlier));
  const SocketAddress destination = ProbeDestination();
  absl::StatusOr<ChildProcess> child = ChildProcess::Start(
      cgroupFd, [&destination] { return ConnectAndHold(destination); },
      ChildProcess::Descriptors::kOwn);  // it is killed when its connection has arrived
  if (!child.ok()) return child.status();
  const auto deadline = std::chrono::steady_clock::now() + limit;
  bool childEnded = false;
  for (;;) {
    pollfd waits[2] = {{.fd = arrived_.get(), .events = POLLIN, .revents = 0},
                       {.fd = childEnded ? -1 : child->pidFd(), .events = POLLIN, .revents = 0}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return absl::DeadlineExceededError("the probe connect was not accepted by the agent in time");
    }
    if (::poll(waits, 2, static_cast<int>(left.count())) < 0 && errno != EINTR) {
      return absl::InternalError(StrCat("poll: ", std::strerror(errno)));
    }
    if (waits[0].revents != 0) return absl::OkStatus();
    if (waits[1].revents == 0) continue;
    const absl::StatusOr<int> error = child->Wait();
    if (!error.ok()) return error.status();
    if (*error != 0) {
      return absl::UnavailableError(StrCat("the probe connect from the agent's cgroup to ", destination.Text(),
                                           " was not redirected to the agent: ", std::strerror(*error)));
    }
    childEnded = true;  // connected and closed again: its acceptance may be about to be reported
  }
}

}  // namespace kveil::intercept
