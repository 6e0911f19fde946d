#include "fdstore/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

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

// Bounds those that say nothing, which are met at once, so that none of them keeps an agent waiting for long.
constexpr size_t kMostNewcomers = 8;

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
  for (;;) {
    const int listener = newcomers_.size() < kMostNewcomers ? listener_.get() : -1;
    std::vector<pollfd> ready = {{end, POLLIN, 0}, {agent_.get(), POLLIN, 0}, {listener, POLLIN, 0}};
    for (const Newcomer& one : newcomers_) {
      ready.push_back({one.socket.get(), POLLIN, 0});
      if (one.isMet) ready.back().events = 0;  // but for POLLHUP: what it says is for later
    }
    (void)::poll(ready.data(), ready.size(), MillisecondsUntil(NextDeadline()));
    if (ready[0].revents != 0) return;
    if (ready[1].revents != 0 && HearAgent()) continue;  // Whoever comes later is looked at later.
    auto state = ready.begin() + 3;
    for (auto one = newcomers_.begin(); one != newcomers_.end(); ++state) {
      const absl::Status met = one->isMet ? absl::OkStatus() : Meet(*one);
      if (!met.ok()) Deny(one->socket.get(), met);
      const bool hasGone = !met.ok() || (state->revents & (POLLHUP | POLLERR)) != 0;
      one = hasGone ? newcomers_.erase(one) : std::next(one);
    }
    if (ready[2].revents != 0) Accept();
    if (IsSilent()) {
      log::Warning("fdstore.silent", {{"pid", PeerPid(agent_.get())}});
      LoseAgent();
    }
    ServeNext();
    if (Clock::now() >= dropAt_) Drop("no agent has come back: connects are refused from now on");
  }
}

void Server::Accept() {
  UniqueFd made(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!made.valid()) return;  // It has gone already.
  if (PeerUid(made.get()) != ::geteuid()) return Deny(made.get(), absl::PermissionDeniedError("it is another user's"));
  newcomers_.push_back({std::move(made), Clock::now() + options_.patience});
}

absl::Status Server::Meet(Newcomer& newcomer) {
  const absl::StatusOr<std::optional<Message>> message = Receive(newcomer.socket.get());
  if (!message.ok()) return message.status();
  if (!message->has_value()) {
    return Clock::now() < newcomer.until ? absl::OkStatus() : absl::DeadlineExceededError("it says nothing");
  }
  const absl::StatusOr<Hello> hello = ReadHello(**message);
  const bool isOfAnotherVersion = absl::IsFailedPrecondition(hello.status());
  if (isOfAnotherVersion && !agent_.valid()) Drop("the next agent speaks another version: what waited is reset");
  // Also to one of another version, which then knows why it is denied.
  if (hello.ok() || isOfAnotherVersion) (void)SendHello(newcomer.socket.get(), {.most = options_.most});
  newcomer.isMet = hello.ok();
  return hello.status();
}

void Server::Deny(int newcomer, const absl::Status& why) {
  // An agent of another version comes each second.
  const bool isKnown = absl::IsFailedPrecondition(why) && why == denied_;
  denied_ = why;
  if (isKnown) return;
  log::Warning("fdstore.denied", {{"uid", PeerUid(newcomer)}, {"pid", PeerPid(newcomer)}, {"reason", why}});
}

bool Server::IsSilent() const {
  return agent_.valid() && Clock::now() >= heardAt_ + options_.silence &&
         std::ranges::any_of(newcomers_, &Newcomer::isMet);
}

Server::TimePoint Server::NextDeadline() const {
  TimePoint next = dropAt_;
  for (const Newcomer& one : newcomers_) next = std::min(next, one.isMet ? heardAt_ + options_.silence : one.until);
  return next;
}

void Server::ServeNext() {
  while (!agent_.valid()) {
    const auto next = std::ranges::find_if(newcomers_, &Newcomer::isMet);
    if (next == newcomers_.end()) return;
    agent_ = std::move(next->socket);
    newcomers_.erase(next);
    dropAt_ = kNever;
    log::Info("fdstore.agent", {{"kept", kept_.size()}, {"pid", PeerPid(agent_.get())}});
    if (!Greet()) LoseAgent();
    heardAt_ = Clock::now();
  }
}

// Whether it heard all of it.
bool Server::Greet() const {
  const timeval limit = {kGreetingLimit.count(), 0};
  ::setsockopt(agent_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  const Clock::time_point until = Clock::now() + kGreetingLimit;
  for (const auto& [name, fd] : kept_) {
    absl::StatusOr<bool> sent = false;
    while (sent.ok() && !*sent && Clock::now() < until) sent = Send(agent_.get(), Verb::kKeep, name, fd.get());
    if (!sent.ok() || !*sent) return false;
  }
  const absl::StatusOr<bool> sent = Send(agent_.get(), Verb::kAll);
  return sent.ok() && *sent;
}

bool Server::HearAgent() {
  absl::StatusOr<std::optional<Message>> message = Receive(agent_.get());
  heardAt_ = Clock::now();
  if (!message.ok()) LoseAgent();
  if (message.ok() && message->has_value()) Do(std::move(**message));
  return message.ok();
}

void Server::LoseAgent() {
  agent_.Reset();
  dropAt_ = Clock::now() + options_.keepFor;
  log::Info("fdstore.agentGone", {{"kept", kept_.size()}});
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

void Server::Drop(std::string_view why) {
  if (!kept_.empty()) {
    log::Warning("fdstore.dropped", {{"descriptors", kept_.size()}, {"reason", why}});
  }
  kept_.clear();
  dropAt_ = kNever;
}

}  // namespace kveil::fdstore
