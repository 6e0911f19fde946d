#include "fdstore/client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "base/unix_socket.h"

namespace kveil::fdstore {
namespace {

using Clock = std::chrono::steady_clock;

// In one look: what a store keeps, its hello and its end, and some that this version does not know.
constexpr size_t kMostHeard = kMostKept + 64;
// A store that does not hear that much is as good as away.
constexpr size_t kMostOwed = 2 * kMostHeld;

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
  const bool hasRoom = kept_.contains(name) || kept_.size() < kMostHeld;
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
  OweWhatThereIsRoomFor();
  SayOwed();
  if (!problem_.ok()) return problem_;
  if (!hasHeardAll_ || !owed_.empty()) return SaysTooLittle();
  // Who says nothing loses its place when another agent comes.
  if (const absl::StatusOr<bool> sent = SendHello(socket_.get(), {}); !sent.ok()) {
    Close(sent.status());
    return problem_;
  }
  if (const size_t missing = refused_.size() + kept_.size() - stored_.size(); missing > 0) {
    return absl::ResourceExhaustedError(
        StrCat(missing, " listener(s) could not be kept: at most ", most_, " are, and each takes a descriptor"));
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
  for (size_t heard = 0; socket_.valid() && heard < kMostHeard; ++heard) {
    absl::StatusOr<std::optional<Message>> message = Receive(socket_.get());
    if (!message.ok()) return Close(message.status());
    if (!message->has_value()) return;
    if (const absl::Status status = Do(std::move(**message)); !status.ok()) return Close(status);
  }
}

absl::Status Client::Do(Message message) {
  if (message.verb == Verb::kHello || !hasHello_) {
    const absl::StatusOr<Hello> hello = ReadHello(message);
    if (!hello.ok()) return hello.status();
    hasHello_ = true;
    most_ = std::min(hello->most, kMostKept);
  }
  if (message.verb == Verb::kKeep) return HearOf(std::move(message.name), std::move(message.fd));
  if (message.verb == Verb::kAll && !hasHeardAll_) {
    hasHeardAll_ = true;
    problem_ = absl::OkStatus();
    for (const auto& [name, fd] : kept_) owed_.push_back(name);
  }
  return absl::OkStatus();
}

// Before TakeKept it is for the agent, later the agent has its own.
absl::Status Client::HearOf(std::string name, UniqueFd fd) {
  stored_.insert(name);
  if (!wasTaken_ && fd.valid() && earlier_.size() < kMostKept) {
    earlier_.push_back({std::move(name), std::move(fd)});
  } else if (!kept_.contains(name)) {
    owed_.push_back(std::move(name));
    if (owed_.size() > kMostOwed) return absl::ResourceExhaustedError("it keeps too much");
  }
  return absl::OkStatus();
}

// Nothing is owed to a store that has gone: the next one hears of all that is kept. One that has not named all yet may
// have named what is forgotten now.
void Client::Owe(const std::string& name) {
  if (!socket_.valid() || (!hasHeardAll_ && kept_.contains(name))) return;
  owed_.push_back(name);
  if (owed_.size() > kMostOwed) Close(absl::ResourceExhaustedError("it does not listen"));
}

// Such as when something was forgotten.
void Client::OweWhatThereIsRoomFor() {
  if (!hasHeardAll_ || !owed_.empty() || stored_.size() >= std::min(most_, kept_.size())) return;
  for (const auto& [name, fd] : kept_) {
    if (!stored_.contains(name)) owed_.push_back(name);
  }
}

void Client::SayOwed() {
  for (; hasHeardAll_ && !owed_.empty(); owed_.pop_front()) {
    const std::string& name = owed_.front();
    const auto kept = kept_.find(name);
    const bool isKept = kept != kept_.end();
    if (isKept && stored_.size() >= most_ && !stored_.contains(name)) continue;  // There is no room.
    const absl::StatusOr<bool> sent =
        isKept ? Send(socket_.get(), Verb::kKeep, name, kept->second.get()) : Send(socket_.get(), Verb::kForget, name);
    if (!sent.ok()) return Close(sent.status());
    if (!*sent) return;
    if (isKept) {
      stored_.insert(name);
    } else {
      stored_.erase(name);
    }
  }
}

void Client::Close(absl::Status why) {
  socket_.Reset();
  hasHello_ = hasHeardAll_ = false;
  owed_.clear();
  stored_.clear();
  problem_ = absl::Status(why.code(), StrCat("the descriptor store at ", path_, ": ", ToStd(why.message())));
}

}  // namespace kveil::fdstore
