// The HTTP endpoint: one thread, one poll, sockets that never block, as the admin socket. A client that is slow holds
// up nobody, and when all places are taken the oldest one goes.
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <list>
#include <thread>
#include <utility>
#include <vector>

#include "base/text.h"
#include "base/unique_fd.h"
#include "observe/metrics.h"

namespace kveil::observe {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostClients = 64;
constexpr size_t kMostRequestBytes = 16 << 10;
// For a request to arrive, and for an answer to leave.
constexpr std::chrono::seconds kPatience{2};
constexpr std::chrono::milliseconds kAcceptPause{100};

struct Client {
  UniqueFd socket;
  Clock::time_point deadline;
  std::string request;
  std::string answer;
  size_t sent = 0;
  bool ending = false;  // all is sent; whatever the client still says is read away, so that it is not reset
};

std::string HttpAnswer(std::string_view status, std::string_view type, std::string_view body) {
  return StrCat("HTTP/1.1 ", status, "\r\nContent-Type: ", type, "\r\nContent-Length: ", body.size(),
                "\r\nConnection: close\r\n\r\n", body);
}

}  // namespace

struct MetricsEndpoint::Server {
  const Metrics& metrics;
  UniqueFd listener;
  UniqueFd stop;
  uint16_t port = 0;
  std::list<Client> clients;  // the oldest first
  Clock::time_point acceptAfter = Clock::time_point::min();
  std::thread thread;

  void Run();
  void AcceptOne();
  // Each returns false when the client is done with.
  bool Go(Client& client);
  bool Receive(Client& client);
  bool Send(Client& client);
  std::string AnswerTo(std::string_view requestLine) const;
  int PollTimeout() const;
};

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Server> server) : server_(std::move(server)) {}

MetricsEndpoint::~MetricsEndpoint() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(server_->stop.get(), &one, sizeof(one));
  server_->thread.join();
}

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Listen(const SocketAddress& address,
                                                                         const Metrics& metrics) {
  const auto fail = [&address] {
    return absl::UnavailableError(StrCat("cannot listen at ", address.Text(), " for metrics: ", std::strerror(errno)));
  };
  UniqueFd listener(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  if (!listener.valid() || ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
      ::bind(listener.get(), address.get(), address.size()) < 0 || ::listen(listener.get(), 128) < 0) {
    return fail();
  }
  sockaddr_storage bound;
  socklen_t size = sizeof(bound);
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &size) < 0) return fail();
  const absl::StatusOr<SocketAddress> local = SocketAddress::From(reinterpret_cast<const sockaddr*>(&bound), size);
  if (!local.ok()) return local.status();
  UniqueFd stop(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!stop.valid()) return fail();
  auto server = std::make_unique<Server>(
      Server{.metrics = metrics, .listener = std::move(listener), .stop = std::move(stop), .port = local->port()});
  server->thread = std::thread([running = server.get()] { running->Run(); });
  return std::unique_ptr<MetricsEndpoint>(new MetricsEndpoint(std::move(server)));
}

uint16_t MetricsEndpoint::port() const { return server_->port; }

int MetricsEndpoint::Server::PollTimeout() const {
  Clock::time_point next = acceptAfter > Clock::now() ? acceptAfter : Clock::time_point::max();
  for (const Client& client : clients) next = std::min(next, client.deadline);
  if (next == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX));
}

void MetricsEndpoint::Server::Run() {
  std::vector<pollfd> waited;
  for (;;) {
    const bool accepts = Clock::now() >= acceptAfter;
    waited.assign({{stop.get(), POLLIN, 0}, {accepts ? listener.get() : -1, POLLIN, 0}});
    for (const Client& client : clients) {
      const bool sends = !client.answer.empty() && !client.ending;
      waited.push_back({client.socket.get(), static_cast<short>(sends ? POLLOUT : POLLIN), 0});
    }
    ::poll(waited.data(), waited.size(), PollTimeout());
    if (waited[0].revents != 0) return;
    const Clock::time_point now = Clock::now();
    size_t index = 2;
    for (auto client = clients.begin(); client != clients.end(); ++index) {
      const bool keep = client->deadline > now && (waited[index].revents == 0 || Go(*client));
      client = keep ? std::next(client) : clients.erase(client);
    }
    if (waited[1].revents != 0) AcceptOne();
  }
}

void MetricsEndpoint::Server::AcceptOne() {
  UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    // Out of descriptors: asking again at once would not help.
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) acceptAfter = Clock::now() + kAcceptPause;
    return;
  }
  if (clients.size() >= kMostClients) clients.pop_front();
  Client& client = clients.emplace_back();
  client.socket = std::move(socket);
  client.deadline = Clock::now() + kPatience;
}

bool MetricsEndpoint::Server::Go(Client& client) {
  if (client.ending || client.answer.empty()) return Receive(client);
  return Send(client);
}

bool MetricsEndpoint::Server::Receive(Client& client) {
  char chunk[4096];
  const ssize_t count = ::recv(client.socket.get(), chunk, sizeof(chunk), MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  if (client.ending) return true;
  client.request.append(chunk, static_cast<size_t>(count));
  if (client.request.size() > kMostRequestBytes) return false;
  if (client.request.find("\r\n\r\n") == std::string::npos) return true;
  client.answer = AnswerTo(std::string_view(client.request).substr(0, client.request.find("\r\n")));
  client.deadline = Clock::now() + kPatience;
  return Send(client);
}

bool MetricsEndpoint::Server::Send(Client& client) {
  const ssize_t count = ::send(client.socket.get(), client.answer.data() + client.sent,
                               client.answer.size() - client.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  client.sent += static_cast<size_t>(count);
  if (client.sent < client.answer.size()) return true;
  client.ending = true;
  return ::shutdown(client.socket.get(), SHUT_WR) == 0;
}

std::string MetricsEndpoint::Server::AnswerTo(std::string_view requestLine) const {
  constexpr std::string_view kText = "text/plain; charset=utf-8";
  const size_t pathAt = requestLine.find(' ');
  if (requestLine.substr(0, pathAt) != "GET") return HttpAnswer("405 Method Not Allowed", kText, "only GET\n");
  std::string_view path = requestLine.substr(std::min(pathAt + 1, requestLine.size()));
  path = path.substr(0, path.find_first_of(" ?"));
  if (path != "/metrics") return HttpAnswer("404 Not Found", kText, "see /metrics\n");
  return HttpAnswer("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics.Text());
}

}  // namespace kveil::observe
