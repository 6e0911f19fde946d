#include "fdstore/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "base/unix_socket.h"

namespace kveil::fdstore {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// An agent takes what is kept at once. One that does not is not waited for.
constexpr std::chrono::seconds kGreetingLimit{5};

absl::Status Failed(const std::string& what) {
  return absl::UnavailableError(StrCat(what, ": ", std::strerror(errno)));
}

// What this process has open beside what it keeps, with room to spare.
constexpr rlim_t kOwnDescriptors = 32;

size_t RoomForDescriptors() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < kOwnDescriptors) return 0;
  return limit.rlim_cur - kOwnDescriptors;
}

constexpr Clock::time_point kNever = Clock::time_point::max();

// In poll's terms; -1: for ever. Rounded up, so that the time has come when it wakes.
int MillisecondsUntil(Clock::time_point time) {
  if (time == kNever) return -1;
  const auto left = std::chrono::ceil<milliseconds>(time - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

}  // namespace

Server::Server(Options options, UniqueFd listener) : options_(std::move(options)), listener_(std::move(listener)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(Options options) {
  // Under another name first: whoever finds the socket can connect, and one that an earlier process left is replaced.
  const std::string path = options.path + ".new";
  const absl::StatusOr<sockaddr_un> address = UnixAddress(path);
  if (!address.ok()) return address.status();
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return Failed("cannot make a socket");
  options.most = std::min(options.most, RoomForDescriptors());
  ::fchmod(listener.get(), 0600);  // bind gives the file this mode
  ::unlink(path.c_str());
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(listener.get(), 8) != 0 ||
      ::rename(path.c_str(), options.path.c_str()) != 0) {
    return Failed(StrCat("cannot listen at ", options.path));
  }
  return std::unique_ptr<Server>(new Server(std::move(options), std::move(listener)));
}

void Server::Run(int end) {
  Clock::time_point dropAt = kNever;
  for (;;) {
    std::array<pollfd, 2> ready = {pollfd{listener_.get(), POLLIN, 0}, pollfd{end, POLLIN, 0}};
    (void)::poll(ready.data(), ready.size(), MillisecondsUntil(dropAt));
    if (ready[1].revents != 0) return;
    if (Clock::now() >= dropAt) {
      Drop();
      dropAt = kNever;
    }
    if (ready[0].revents == 0) continue;
    const UniqueFd agent(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!agent.valid()) continue;  // it has gone already
    if (const absl::Status met = Meet(agent.get(), end); !met.ok()) {
      log::Warning("fdstore.denied", {{"uid", PeerUid(agent.get())}, {"pid", PeerPid(agent.get())}, {"reason", met}});
      continue;
    }
    if (!Serve(agent.get(), end)) return;
    dropAt = Clock::now() + options_.keepFor;
    log::Info("fdstore.agentGone", {{"kept", kept_.size()}});
  }
}

absl::Status Server::Meet(int agent, int end) const {
  if (PeerUid(agent) != ::geteuid()) return absl::PermissionDeniedError("it is another user's");
  std::array<pollfd, 2> ready = {pollfd{agent, POLLIN, 0}, pollfd{end, POLLIN, 0}};
  (void)::poll(ready.data(), ready.size(), static_cast<int>(options_.patience.count()));
  const absl::StatusOr<std::optional<Message>> message = Receive(agent);
  if (!message.ok()) return message.status();
  if (!message->has_value()) return absl::DeadlineExceededError("it says nothing");
  const absl::StatusOr<Hello> hello = ReadHello(**message);
  // Also to one of another version, which then knows why it is denied.
  if (hello.ok() || absl::IsFailedPrecondition(hello.status())) (void)SendHello(agent, {.most = options_.most});
  return hello.status();
}

bool Server::Serve(int agent, int end) {
  log::Info("fdstore.agent", {{"kept", kept_.size()}, {"pid", PeerPid(agent)}});
  bool isThere = Greet(agent);
  while (isThere) {
    std::array<pollfd, 2> ready = {pollfd{agent, POLLIN, 0}, pollfd{end, POLLIN, 0}};
    (void)::poll(ready.data(), ready.size(), static_cast<int>(options_.patience.count()));
    if (ready[1].revents != 0) return false;
    if (ready[0].revents == 0) {
      if (!AnotherWaits()) continue;
      log::Warning("fdstore.silent", {{"pid", PeerPid(agent)}});
      return true;
    }
    absl::StatusOr<std::optional<Message>> message = Receive(agent);
    isThere = message.ok();
    if (isThere && message->has_value()) Do(std::move(**message));
  }
  return true;
}

bool Server::AnotherWaits() const {
  pollfd next = {listener_.get(), POLLIN, 0};
  return ::poll(&next, 1, 0) > 0;
}

// Whether it heard all of it.
bool Server::Greet(int agent) const {
  const timeval limit = {kGreetingLimit.count(), 0};
  ::setsockopt(agent, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  const Clock::time_point until = Clock::now() + kGreetingLimit;
  for (const auto& [name, fd] : kept_) {
    absl::StatusOr<bool> sent = false;
    while (sent.ok() && !*sent && Clock::now() < until) sent = Send(agent, Verb::kKeep, name, fd.get());
    if (!sent.ok() || !*sent) return false;
  }
  const absl::StatusOr<bool> sent = Send(agent, Verb::kAll);
  return sent.ok() && *sent;
}

void Server::Do(Message message) {
  if (message.verb == Verb::kForget) kept_.erase(message.name);
  if (message.verb != Verb::kKeep) return;
  const bool hasRoom = kept_.size() < options_.most || kept_.contains(message.name);
  if (message.fd.valid() && hasRoom) {
    kept_[message.name] = std::move(message.fd);
  } else if (!std::exchange(isFullTold_, true)) {
    log::Warning("fdstore.notKept", {{"kept", kept_.size()},
                                     {"reason",
                                      "there is room for no more descriptors: some connects are refused "
                                      "while an agent restarts"}});
  }
}

void Server::Drop() {
  if (!kept_.empty()) {
    log::Warning("fdstore.dropped", {{"descriptors", kept_.size()},
                                     {"reason", "no agent has come back: connects are refused from now on"}});
  }
  kept_.clear();
}

}  // namespace kveil::fdstore
