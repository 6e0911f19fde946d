// Makes listeners in a child process that has entered the namespace.
#include "intercept/kernel/listeners.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <random>
#include <utility>

#include "base/socket_address.h"
#include "base/text.h"
#include "intercept.h"
#include "intercept/system/child_process.h"

namespace kveil::intercept {
namespace {

constexpr int kBacklog = 4096;
constexpr int kTriesAtRandom = 16;
constexpr int kTriesReserved = 16;
constexpr uint16_t kFirstFreePort = 1024;  // below, ports are given to services by name

using Ports = std::array<uint16_t, 2 + kTriesAtRandom + kTriesReserved>;

// The preferred port, one that the kernel chooses, and random ones; the last of these no unprivileged process can hold,
// in case one has taken all that it may (ip_unprivileged_port_start).
Ports PortsToTry(uint16_t preferred) {
  std::random_device random;
  std::uniform_int_distribution<uint16_t> any(kFirstFreePort, UINT16_MAX);
  std::uniform_int_distribution<uint16_t> reserved(kFirstReservedPort, kLastReservedPort);
  Ports ports = {preferred, 0};
  std::generate_n(ports.begin() + 2, kTriesAtRandom, [&] { return any(random); });
  std::generate_n(ports.end() - kTriesReserved, kTriesReserved, [&] { return reserved(random); });
  return ports;
}

struct Made {
  int fd, error;
};

struct Outcome {
  bool finished;
  int enterError;
  Made v4, v6;
};

// Those below run in a forked child: system calls only. The descriptors are the parent's, too.

Made Listen(const SocketAddress& address, int ownSocketsMap) {
  Made made = {::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 0};
  if (made.fd < 0) return {-1, errno};
  const int on = 1;
  const uint32_t tag = KVEIL_OWN_SOCKET;
  // A restarted agent finds the earlier one's connections in TIME_WAIT at this port. The tag comes before listen(),
  // when the kernel half notes the agent's listeners and nobody else's.
  const bool listening =
      ::setsockopt(made.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      (address.family() != AF_INET6 || ::setsockopt(made.fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
      ::bind(made.fd, address.get(), address.size()) == 0 &&
      ::bpf_map_update_elem(ownSocketsMap, &made.fd, &tag, BPF_ANY) == 0 && ::listen(made.fd, kBacklog) == 0;
  if (listening) return made;
  made.error = errno;
  ::close(made.fd);
  made.fd = -1;
  return made;
}

Made ListenAtOneOf(const Ports& ports, SocketAddress address, int ownSocketsMap) {
  Made made = {-1, EADDRINUSE};
  for (const uint16_t port : ports) {
    address.setPort(port);
    made = Listen(address, ownSocketsMap);
    if (made.error == EACCES) made.error = EADDRINUSE;  // without CAP_NET_BIND_SERVICE a reserved one cannot be had
    if (made.fd >= 0 || made.error != EADDRINUSE) break;
  }
  return made;
}

bool LacksIpv6(int error) { return error == EAFNOSUPPORT || error == EADDRNOTAVAIL; }

absl::Status Explain(const char* address, uint16_t port, int error) {
  const std::string where = StrCat(address, ":", port);
  switch (error) {
    case EADDRINUSE:
      return absl::UnavailableError(
          StrCat("cannot listen on ", where, ": other programs hold that port and every other one that was tried"));
    case EADDRNOTAVAIL:
      return absl::UnavailableError(
          StrCat("cannot listen on ", where, ": the address is not there; is lo down ('ip link set lo up')?"));
    case ENOBUFS:
    case ENOMEM:
      return absl::UnavailableError(StrCat("cannot listen on ", where, ": ", std::strerror(error),
                                           "; is net.core.optmem_max, or a limit of memory, too low there?"));
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(StrCat("cannot listen on ", where, ": ", std::strerror(error)));
    default:
      return absl::UnavailableError(StrCat("cannot listen on ", where, ": ", std::strerror(error)));
  }
}

}  // namespace

absl::StatusOr<Listeners> MakeListeners(const ListenerPlace& place, int namespaceFd, Families families) {
  SharedWithChild<Outcome> outcome;
  if (!outcome.valid()) return absl::ResourceExhaustedError("no memory to share with a child process");
  const SocketAddress v4 = SocketAddress::V4(htonl(INADDR_LOOPBACK), 0);
  const SocketAddress v6 = SocketAddress::V6(in6addr_loopback, 0);
  const Ports ports = PortsToTry(place.preferredPort);
  absl::StatusOr<ChildProcess> child = ChildProcess::Start(place.cgroupFd, [&] {
    outcome->v4 = outcome->v6 = {-1, 0};
    if (::setns(namespaceFd, CLONE_NEWNET) < 0) {
      outcome->enterError = errno;
      return 1;
    }
    if (families == Families::kBoth) outcome->v4 = ListenAtOneOf(ports, v4, place.ownSocketsMap);
    outcome->v6 = ListenAtOneOf(ports, v6, place.ownSocketsMap);
    outcome->finished = true;
    return 0;
  });
  if (!child.ok()) return child.status();
  const absl::StatusOr<int> status = child->Wait();
  if (!status.ok()) return status.status();
  if (!outcome->finished) {
    return absl::InternalError(StrCat("cannot enter the namespace: ", std::strerror(outcome->enterError)));
  }
  Listeners listeners{.v4 = UniqueFd(outcome->v4.fd), .v6 = UniqueFd(outcome->v6.fd)};
  const uint16_t port = place.preferredPort;
  if (families == Families::kBoth && !listeners.v4.valid()) return Explain("127.0.0.1", port, outcome->v4.error);
  const bool v6Failed = !listeners.v6.valid() && !LacksIpv6(outcome->v6.error);
  if (v6Failed || (families == Families::kOnlyV6 && !listeners.v6.valid())) {
    return Explain("[::1]", port, outcome->v6.error);
  }
  return listeners;
}

}  // namespace kveil::intercept
