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
  auto mailbox = std::make_shared<Mailbox>();
  mailbox->wake = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!mailbox->wake.valid()) return absl::UnavailableError(StrCat("eventfd: ", std::strerror(errno)));
  return std::unique_ptr<RequestServer>(new RequestServer(std::move(listener), std::move(mailbox), options));
}

RequestServer::~RequestServer() {
  if (!thread_.joinable()) return;
  {
    const MutexLock lock(mailbox_->mutex);
    mailbox_->isStopping = true;
  }
  mailbox_->Wake();
  thread_.join();
}

void RequestServer::Mailbox::Wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake.get(), &one, sizeof(one));
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
    waited.assign({{mailbox_->wake.get(), POLLIN, 0}, {accepts ? listener_.get() : -1, POLLIN, 0}});
    for (const Client& client : clients_) {
      // Of one that waits for its answer, only its end is of interest, which poll always reports.
      const int events = client.isWaiting ? 0 : client.isSending() ? POLLOUT : POLLIN;
      waited.push_back({client.socket.get(), static_cast<short>(events), 0});
    }
    ::poll(waited.data(), waited.size(), PollTimeout());

    const Clock::time_point now = Clock::now();
    size_t index = 2;
    for (auto client = clients_.begin(); client != clients_.end(); ++index) {
      bool keep = client->deadline > now;
      if (keep && waited[index].revents != 0) keep = Serve(*client);
      client = keep ? std::next(client) : clients_.erase(client);
    }
    if (waited[0].revents != 0 && !TakeAnswers()) return;
    if (waited[1].revents != 0) AcceptOne();
  }
}

bool RequestServer::TakeAnswers() {
  uint64_t count;
  [[maybe_unused]] const ssize_t read = ::read(mailbox_->wake.get(), &count, sizeof(count));
  std::vector<std::pair<uint64_t, std::string>> answers;
  bool isStopping;
  {
    const MutexLock lock(mailbox_->mutex);
    answers.swap(mailbox_->answers);
    isStopping = mailbox_->isStopping;
  }
  for (auto& [id, answer] : answers) {
    const auto client =
        std::find_if(clients_.begin(), clients_.end(), [id = id](const Client& one) { return one.id == id; });
    if (client == clients_.end()) continue;  // it has gone
    client->isWaiting = false;
    client->answer = std::move(answer);
    client->deadline = Clock::now() + options_.patience;
    if (!Send(*client)) clients_.erase(client);
  }
  return !isStopping;
}

void RequestServer::AcceptOne() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    // Out of descriptors: the connection stays in the backlog, and asking again at once would not help.
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) acceptAfter_ = Clock::now() + kAcceptPause;
    return;
  }
  if (callbacks_.mayAsk && !callbacks_.mayAsk(socket.get())) return;
  if (clients_.size() >= options_.connections && !MakeRoom(socket.get())) return;
  Client& client = clients_.emplace_back();
  client.id = ++nextId_;
  client.socket = std::move(socket);
  client.deadline = Clock::now() + options_.patience;
}

// A client that waits for its answer keeps its place: its request may have changed something, and it has to hear of
// that.
bool RequestServer::MakeRoom(int newcomer) {
  const auto oldest =
      std::find_if(clients_.begin(), clients_.end(), [](const Client& client) { return !client.isWaiting; });
  if (oldest == clients_.end()) {
    (void)!::send(newcomer, callbacks_.full.data(), callbacks_.full.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return false;
  }
  clients_.erase(oldest);
  return true;
}

bool RequestServer::Serve(Client& client) const {
  if (client.isWaiting) return false;  // it has hung up
  return client.isSending() ? Send(client) : Receive(client);
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
    client.deadline = Clock::now() + options_.patience;
    return !client.answer.empty() && Send(client);
  }
  if (end == std::string_view::npos) return true;
  client.isWaiting = true;
  client.deadline = Clock::time_point::max();
  Reply reply = [mailbox = mailbox_, id = client.id](std::string answer) {
    {
      const MutexLock lock(mailbox->mutex);
      mailbox->answers.emplace_back(id, std::move(answer));
    }
    mailbox->Wake();
  };
  callbacks_.answer(std::string_view(client.request).substr(0, end), client.socket.get(), std::move(reply));
  return true;
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
