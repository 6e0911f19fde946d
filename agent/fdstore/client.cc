#include "fdstore/client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "base/unix_socket.h"

namespace kveil::fdstore {
namespace {

using Clock = std::chrono::steady_clock;

// A store that does not hear that much is as good as away.
constexpr size_t kMostOwed = 2 * kMostKept;

UniqueFd Duplicate(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

}  // namespace

Client::Client(std::string path, std::chrono::milliseconds patience) : path_(std::move(path)), patience_(patience) {}

bool Client::Keep(const std::string& name, int fd) {
  const MutexLock lock(mutex_);
  if (isEnding_ || !KeepDuplicate(name, fd)) return false;
  Owe(name);
  SayOwed();
  return true;
}

void Client::Forget(const std::string& name) {
  const MutexLock lock(mutex_);
  kept_.erase(name);
  refused_.erase(name);
  Owe(name);
  SayOwed();
}

bool Client::KeepDuplicate(const std::string& name, int fd) {
  UniqueFd duplicate = Duplicate(fd);
  const bool hasRoom = kept_.contains(name) || kept_.size() < most_;
  if (duplicate.valid() && hasRoom) {
    kept_[name] = std::move(duplicate);
    refused_.erase(name);
    return true;
  }
  if (refused_.size() < kMostKept) refused_.insert(name);
  return false;
}

// The connection stays: when it ends, the store knows that the agent has gone.
void Client::End() {
  const MutexLock lock(mutex_);
  Hear();
  SayOwed();
  isEnding_ = true;
  owed_.clear();
  kept_.clear();
}

std::vector<KeptDescriptor> Client::TakeKept() {
  const MutexLock lock(mutex_);
  Connect();
  const bool isThere = socket_.valid();
  for (const Clock::time_point until = Clock::now() + patience_; socket_.valid() && !hasHeardAll_;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) break;
    pollfd ready = {socket_.get(), POLLIN, 0};
    (void)::poll(&ready, 1, static_cast<int>(left));
    Hear();
  }
  wasTaken_ = true;
  if (isThere && !hasHeardAll_) {
    const absl::Status why = problem_.ok() ? SaysTooLittle() : problem_;
    log::Warning("fdstore.notTaken", {{"reason", StrCat(ToStd(why.message()), "; connects that waited are reset")}});
  }
  for (const KeptDescriptor& one : earlier_) (void)KeepDuplicate(one.name, one.fd.get());
  return std::exchange(earlier_, {});
}

absl::Status Client::Watch() {
  const MutexLock lock(mutex_);
  if (isEnding_) return absl::OkStatus();
  if (!socket_.valid()) Connect();
  Hear();
  SayOwed();
  if (!problem_.ok()) return problem_;
  if (!hasHeardAll_ || !owed_.empty()) return SaysTooLittle();
  // Who says nothing loses its place when another agent comes.
  if (const absl::StatusOr<bool> sent = SendHello(socket_.get(), {}); !sent.ok()) {
    Close(sent.status());
    return problem_;
  }
  if (!refused_.empty()) {
    return absl::ResourceExhaustedError(StrCat(refused_.size(), " listener(s) could not be kept: at most ", most_,
                                               " are, and each takes a descriptor"));
  }
  return absl::OkStatus();
}

absl::Status Client::SaysTooLittle() const {
  return absl::UnavailableError(StrCat("the descriptor store at ", path_, " does not answer"));
}

void Client::Connect() {
  const absl::StatusOr<sockaddr_un> address = UnixAddress(path_);
  if (!address.ok()) return Close(address.status());
  UniqueFd made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.valid() || ::connect(made.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    return Close(absl::UnavailableError(std::strerror(errno)));
  }
  // Whoever has the listeners could take the workloads' connections.
  if (PeerUid(made.get()) != ::geteuid()) return Close(absl::PermissionDeniedError("another user has the socket"));
  if (const absl::StatusOr<bool> sent = SendHello(made.get(), {}); !sent.ok()) return Close(sent.status());
  socket_ = std::move(made);
}

void Client::Hear() {
  while (socket_.valid()) {
    absl::StatusOr<std::optional<Message>> message = Receive(socket_.get());
    if (!message.ok()) return Close(message.status());
    if (!message->has_value()) return;
    Message& heard = **message;
    if (heard.verb == Verb::kHello) HearHello(heard);
    if (heard.verb == Verb::kKeep) HearOf(std::move(heard.name), std::move(heard.fd));
    if (heard.verb != Verb::kAll) continue;
    hasHeardAll_ = true;
    problem_ = absl::OkStatus();
    for (const auto& [name, fd] : kept_) owed_.push_back(name);
  }
}

// A store that was started with a lower limit of open files keeps less than the one before it.
void Client::HearHello(const Message& message) {
  const absl::StatusOr<Hello> hello = ReadHello(message);
  if (!hello.ok()) return Close(hello.status());
  most_ = std::min(hello->most, kMostKept);
  while (kept_.size() > most_) {
    const auto last = std::prev(kept_.end());
    if (refused_.size() < kMostKept) refused_.insert(last->first);
    kept_.erase(last);
  }
}

// Before TakeKept it is for the agent, later the agent has its own.
void Client::HearOf(std::string name, UniqueFd fd) {
  if (!wasTaken_ && fd.valid() && earlier_.size() < kMostKept) {
    earlier_.push_back({std::move(name), std::move(fd)});
  } else if (!kept_.contains(name)) {
    owed_.push_back(std::move(name));
    if (owed_.size() > kMostOwed) Close(absl::ResourceExhaustedError("it keeps too much"));
  }
}

// Nothing is owed to a store that has gone: the next one hears of all that is kept. One that has not named all yet may
// have named what is forgotten now.
void Client::Owe(const std::string& name) {
  if (!socket_.valid() || (!hasHeardAll_ && kept_.contains(name))) return;
  owed_.push_back(name);
  if (owed_.size() > kMostOwed) Close(absl::ResourceExhaustedError("it does not listen"));
}

void Client::SayOwed() {
  for (; hasHeardAll_ && !owed_.empty(); owed_.pop_front()) {
    const std::string& name = owed_.front();
    const auto kept = kept_.find(name);
    const absl::StatusOr<bool> sent = kept == kept_.end() ? Send(socket_.get(), Verb::kForget, name)
                                                          : Send(socket_.get(), Verb::kKeep, name, kept->second.get());
    if (!sent.ok()) return Close(sent.status());
    if (!*sent) return;
  }
}

void Client::Close(absl::Status why) {
  socket_.Reset();
  hasHeardAll_ = false;
  owed_.clear();
  problem_ = absl::Status(why.code(), StrCat("the descriptor store at ", path_, ": ", ToStd(why.message())));
}

}  // namespace kveil::fdstore
