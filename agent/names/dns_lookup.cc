#include "names/dns_lookup.h"

#include <ares.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <mutex>

#include "base/text.h"

namespace kveil::names {
namespace {

constexpr std::chrono::milliseconds kLookAtStopEvery{100};
// Of the first try; each further one waits longer.
constexpr int kTryMilliseconds = 1000;
constexpr int kTries = 3;

struct Channel {
  ares_channel handle = nullptr;
  ~Channel() {
    if (handle != nullptr) ares_destroy(handle);
  }
};

// What one name has in one family.
struct Query {
  int status = ARES_ECANCELLED;
  Addresses addresses;
  size_t* pending = nullptr;
};

void OnAddresses(void* argument, int status, int /*timeouts*/, ares_addrinfo* found) {
  auto& query = *static_cast<Query*>(argument);
  query.status = status;
  --*query.pending;
  if (found == nullptr) return;
  for (const ares_addrinfo_node* node = found->nodes; node != nullptr; node = node->ai_next) {
    absl::StatusOr<SocketAddress> address = SocketAddress::From(node->ai_addr, node->ai_addrlen);
    if (address.ok()) query.addresses.push_back(*address);
  }
  ares_freeaddrinfo(found);
}

// c-ares takes sockets from us, and then leaves everything about them to us.
const ares_socket_functions kSocketFunctions = {
    [](int family, int type, int protocol, void* options) -> ares_socket_t {
      auto made = static_cast<const DnsOptions*>(options)->makeSocket(family, type, protocol);
      if (made.ok()) return made->Release();
      errno = EACCES;
      return ARES_SOCKET_BAD;
    },
    [](ares_socket_t fd, void*) { return ::close(fd); },
    [](ares_socket_t fd, const sockaddr* address, ares_socklen_t size, void*) { return ::connect(fd, address, size); },
    [](ares_socket_t fd, void* data, size_t size, int flags, sockaddr* from, ares_socklen_t* fromSize, void*) {
      return ::recvfrom(fd, data, size, flags, from, fromSize);
    },
    [](ares_socket_t fd, const iovec* parts, int count, void*) {
      msghdr message = {};
      message.msg_iov = const_cast<iovec*>(parts);
      message.msg_iovlen = static_cast<size_t>(count);
      return ::sendmsg(fd, &message, MSG_NOSIGNAL);  // a name server may close its TCP connection
    },
};

absl::Status Open(const DnsOptions& options, Channel& channel) {
  static std::once_flag once;
  std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
  std::vector<char*> domains;
  for (const std::string& domain : options.config.domains) domains.push_back(const_cast<char*>(domain.c_str()));
  ares_options settings = {};
  settings.timeout = kTryMilliseconds;
  settings.tries = kTries;
  settings.ndots = options.config.dots;
  settings.domains = domains.data();
  settings.ndomains = static_cast<int>(domains.size());
  settings.lookups = const_cast<char*>("b");                  // name servers only: what is in files was looked at
  settings.resolvconf_path = const_cast<char*>("/dev/null");  // not the agent's own
  int error = ares_init_options(
      &channel.handle, &settings,
      ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS | ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF);
  std::string servers;
  for (const std::string& server : options.config.servers) {
    const bool isV6 = server.find(':') != std::string::npos;
    servers += StrCat(servers.empty() ? "" : ",", isV6 ? "[" : "", server, isV6 ? "]" : "", ":", options.port);
  }
  if (error == ARES_SUCCESS) error = ares_set_servers_ports_csv(channel.handle, servers.c_str());
  if (error != ARES_SUCCESS) return absl::UnavailableError(StrCat("no name server: ", ares_strerror(error)));
  ares_set_socket_functions(channel.handle, &kSocketFunctions, const_cast<DnsOptions*>(&options));
  return absl::OkStatus();
}

std::chrono::milliseconds Left(std::chrono::steady_clock::time_point deadline) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
}

void Run(ares_channel channel, const size_t& pending, const DnsOptions& options) {
  while (pending > 0 && Left(options.deadline).count() > 0 && !options.mustStop()) {
    std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets;
    const int wanted = ares_getsock(channel, sockets.data(), ARES_GETSOCK_MAXNUM);
    std::vector<pollfd> polled;
    for (int i = 0; i < ARES_GETSOCK_MAXNUM; ++i) {
      short events = 0;
      if (ARES_GETSOCK_READABLE(wanted, i)) events |= POLLIN;
      if (ARES_GETSOCK_WRITABLE(wanted, i)) events |= POLLOUT;
      if (events != 0) polled.push_back({sockets[static_cast<size_t>(i)], events, 0});
    }
    timeval longest = {0, static_cast<suseconds_t>(std::chrono::microseconds(kLookAtStopEvery).count())};
    timeval room;
    const timeval* wait = ares_timeout(channel, &longest, &room);
    ::poll(polled.data(), polled.size(), static_cast<int>(wait->tv_sec * 1000 + wait->tv_usec / 1000 + 1));
    for (const pollfd& one : polled) {
      ares_process_fd(channel, (one.revents & ~POLLOUT) != 0 ? one.fd : ARES_SOCKET_BAD,
                      (one.revents & POLLOUT) != 0 ? one.fd : ARES_SOCKET_BAD);
    }
    ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // what has waited for too long
  }
  ares_cancel(channel);
}

bool IsUnanswered(const Query& query) {
  return query.status == ARES_ETIMEOUT || query.status == ARES_ECANCELLED || query.status == ARES_EDESTRUCTION;
}

Answer Combined(const std::string& name, Query& v4, Query& v6) {
  if (IsUnanswered(v4) || IsUnanswered(v6)) {
    return absl::UnavailableError(StrCat("no name server told the addresses of ", name, " in time"));
  }
  Addresses addresses = std::move(v4.addresses);
  addresses.insert(addresses.end(), v6.addresses.begin(), v6.addresses.end());
  if (!addresses.empty()) return addresses;
  const int status = v4.status == ARES_ENOTFOUND || v4.status == ARES_ENODATA ? v6.status : v4.status;
  if (status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_SUCCESS) {
    return absl::NotFoundError(StrCat("no name server knows an address of ", name));
  }
  return absl::UnavailableError(StrCat("asking for ", name, ": ", ares_strerror(status)));
}

}  // namespace

std::vector<Answer> LookUpInDns(absl::Span<const std::string> names, const DnsOptions& options) {
  std::vector<Query> queries(2 * names.size());  // IPv4 and IPv6 of each
  std::vector<Answer> answers;
  size_t pending = queries.size();
  Channel channel;
  const absl::Status open = Open(options, channel);
  if (!open.ok()) return std::vector<Answer>(names.size(), open);
  for (size_t i = 0; i < queries.size(); ++i) {
    queries[i].pending = &pending;
    ares_addrinfo_hints hints = {};
    hints.ai_family = i % 2 == 0 ? AF_INET : AF_INET6;
    hints.ai_flags = ARES_AI_NOSORT;
    hints.ai_socktype = SOCK_STREAM;
    ares_getaddrinfo(channel.handle, names[i / 2].c_str(), nullptr, &hints, OnAddresses, &queries[i]);
  }
  Run(channel.handle, pending, options);
  for (size_t i = 0; i < names.size(); ++i) answers.push_back(Combined(names[i], queries[2 * i], queries[2 * i + 1]));
  return answers;
}

}  // namespace kveil::names
