// Half-open connects.
#include "support/half_open.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <utility>
#include <vector>

#include "support/node.h"

namespace kveil::nettest {
namespace {

void DropAnswers(int fd, int family) {
  const int most = 255;
  if (family == AF_INET) {
    ::setsockopt(fd, IPPROTO_IP, IP_MINTTL, &most, sizeof(most));
  } else {
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, &most, sizeof(most));
  }
}

}  // namespace

void AllowManyDescriptors() {
  const rlimit limit = {.rlim_cur = 20000, .rlim_max = 20000};
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

UniqueFd BeginHalfOpen(const SocketAddress& address) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  BeginHalfOpen(fd.get(), address);
  return fd;
}

void BeginHalfOpen(int fd, const SocketAddress& address) {
  DropAnswers(fd, address.family());
  (void)!::connect(fd, address.get(), address.size());
}

UniqueFd PrepareHalfOpen(const SocketAddress& address) {
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on));
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &on, sizeof(on));
  DropAnswers(fd.get(), address.family());
  (void)!::connect(fd.get(), address.get(), address.size());
  return fd;
}

std::string HoldHalfOpen(const SocketAddress& address, size_t count) {
  AllowManyDescriptors();
  std::vector<UniqueFd> held;
  while (held.size() < count) held.push_back(BeginHalfOpen(address));
  return PauseForEver();
}

}  // namespace kveil::nettest
