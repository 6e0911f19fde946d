// The loop, and what is done for a client when poll says so.
#include "observe/request_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/text.h"

namespace kveil::observe {
namespace {

constexpr std::chrono::milliseconds kAcceptPause{100};

}  // namespace

absl::StatusOr<std::unique_ptr<RequestServer>> RequestServer::Make(UniqueFd listener, const Options& options) {
  UniqueFd stop(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!stop.valid()) return absl::UnavailableError(StrCat("eventfd: ", std::strerror(errno)));
  return std::unique_ptr<RequestServer>(new RequestServer(std::move(listener), std::move(stop), options));
}

RequestServer::~RequestServer() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

void RequestServer::Start(Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  thread_ = std::thread([this] { Run(); });
}

int RequestServer::PollTimeout() const {
  Clock::time_point next = acceptAfter_ > Clock::now() ? acceptAfter_ : Clock::time_point::max();
  for (const Client& client : clients_) next = std::min(next, client.deadline);
  if (next == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX));
}

void RequestServer::Run() {
  std::vector<pollfd> waited;
  for (;;) {
    const bool accepts = Clock::now() >= acceptAfter_;
    waited.assign({{stop_.get(), POLLIN, 0}, {accepts ? listener_.get() : -1, POLLIN, 0}});
    for (const Client& client : clients_) {
      waited.push_back({client.socket.get(), static_cast<short>(client.isSending() ? POLLOUT : POLLIN), 0});
    }
    ::poll(waited.data(), waited.size(), PollTimeout());
    if (waited[0].revents != 0) return;

    const Clock::time_point now = Clock::now();
    size_t index = 2;
    for (auto client = clients_.begin(); client != clients_.end(); ++index) {
      bool keep = client->deadline > now;
      if (keep && waited[index].revents != 0) keep = client->isSending() ? Send(*client) : Receive(*client);
      client = keep ? std::next(client) : clients_.erase(client);
    }
    if (waited[1].revents != 0) AcceptOne();
  }
}

void RequestServer::AcceptOne() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    // Out of descriptors: the connection stays in the backlog, and asking again at once would not help.
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) acceptAfter_ = Clock::now() + kAcceptPause;
    return;
  }
  if (callbacks_.mayAsk && !callbacks_.mayAsk(socket.get())) return;
  if (clients_.size() >= options_.connections) clients_.pop_front();
  Client& client = clients_.emplace_back();
  client.socket = std::move(socket);
  client.deadline = Clock::now() + options_.patience;
}

bool RequestServer::Receive(Client& client) const {
  char chunk[4096];
  const ssize_t count = ::recv(client.socket.get(), chunk, sizeof(chunk), MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  if (client.isEnding) return true;
  client.request.append(chunk, static_cast<size_t>(count));
  const size_t end = callbacks_.endOf(client.request);
  if (std::min(end, client.request.size()) > options_.requestBytes) {
    client.answer = callbacks_.tooLong;
    if (client.answer.empty()) return false;
  } else if (end == std::string_view::npos) {
    return true;
  } else {
    client.answer = callbacks_.answer(std::string_view(client.request).substr(0, end), client.socket.get());
  }
  client.deadline = Clock::now() + options_.patience;
  return Send(client);
}

bool RequestServer::Send(Client& client) const {
  const ssize_t count = ::send(client.socket.get(), client.answer.data() + client.sent,
                               client.answer.size() - client.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  client.sent += static_cast<size_t>(count);
  if (client.sent < client.answer.size()) return true;
  client.isEnding = true;
  return ::shutdown(client.socket.get(), SHUT_WR) == 0;
}

}  // namespace kveil::observe
