#include "daemon/service_manager.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "base/text.h"
#include "base/unix_socket.h"

namespace kveil::daemon {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

// How much longer a start may take from each message on. Messages come once a second.
constexpr std::chrono::seconds kMoreTime{30};
constexpr std::chrono::seconds kBetweenStarting{1};
// What the agent does between two signs of life can take some ten seconds when much is wrong (self_checks.cc).
constexpr std::chrono::seconds kShortestWatchdog{20};
constexpr size_t kLongestStatus = 300;
// What the unit has the manager keep (FileDescriptorStoreMax).
constexpr size_t kMostOwed = 4096;
constexpr int kFirstListenFd = 3;  // sd_listen_fds(3)
constexpr int kMostListenFds = 65'536;

std::string Take(const char* variable) {
  const char* const value = ::getenv(variable);
  const std::string text = value == nullptr ? "" : value;
  ::unsetenv(variable);
  return text;
}

bool TakeWatchdog() {
  const std::string interval = Take("WATCHDOG_USEC");
  const std::string pid = Take("WATCHDOG_PID");
  if (interval.empty() || (!pid.empty() && pid != std::to_string(::getpid()))) return false;  // or meant for another
  uint64_t count = 0;
  if (!absl::SimpleAtoi(interval, &count) || count == 0) {
    log::Warning("service.watchdogIgnored", {{"reason", "WATCHDOG_USEC is not a number of microseconds"}});
    return false;
  }
  if (count < static_cast<uint64_t>(microseconds(kShortestWatchdog).count())) {
    log::Warning("service.watchdogShort",
                 {{"reason", StrCat("WatchdogSec is below ", kShortestWatchdog.count(),
                                    " s: the agent may be ended while it only looks after itself")}});
  }
  return true;
}

std::vector<KeptDescriptor> TakeListenFds() {
  const std::string pid = Take("LISTEN_PID"), count = Take("LISTEN_FDS"), names = Take("LISTEN_FDNAMES");
  if (pid.empty() || pid != std::to_string(::getpid())) return {};  // there are none, or they are meant for another
  std::vector<KeptDescriptor> kept;
  int number = 0;
  const std::vector<std::string> nameOf = absl::StrSplit(names, ':');
  const bool isNumber = absl::SimpleAtoi(count, &number) && number >= 0 && number <= kMostListenFds;
  const bool isGood = isNumber && nameOf.size() == static_cast<size_t>(number);
  for (int i = 0; isNumber && i < number; ++i) {
    const int fd = kFirstListenFd + i;
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) continue;
    UniqueFd one(fd);
    if (isGood) kept.push_back({nameOf[static_cast<size_t>(i)], std::move(one)});
  }
  if (!isGood) log::Warning("service.descriptorsIgnored", {{"reason", "LISTEN_FDS and LISTEN_FDNAMES do not fit"}});
  return kept;
}

// sun_path's bytes; empty when the address is of no form that the agent knows.
std::string SocketPath(const std::string& text) {
  if (text.empty()) return "";
  std::string path = text;
  if (path[0] == '@') path[0] = '\0';
  const bool isKnown = (path[0] == '\0' || path[0] == '/') && path.size() > 1;
  if (isKnown && path.size() < sizeof(sockaddr_un::sun_path)) return path;
  log::Warning("service.notTold", {{"reason",
                                    "NOTIFY_SOCKET is neither an absolute path nor an abstract name of at "
                                    "most 107 bytes"}});
  return "";
}

// A line break would begin another variable, and parts of a status come from clients.
std::string StatusText(std::string_view status) {
  std::string text(status.substr(0, kLongestStatus));
  std::replace_if(text.begin(), text.end(), absl::ascii_iscntrl, ' ');
  return text;
}

std::string MoreTime(microseconds time) { return StrCat("EXTEND_TIMEOUT_USEC=", time.count(), "\n"); }

}  // namespace

ServiceManager::Environment ServiceManager::TakeEnvironment() {
  Environment environment;
  environment.notifySocket = Take("NOTIFY_SOCKET");
  environment.hasWatchdog = TakeWatchdog();
  environment.kept = TakeListenFds();
  return environment;
}

ServiceManager::ServiceManager(Environment environment)
    : address_(SocketPath(environment.notifySocket)),
      hasWatchdog_(environment.hasWatchdog),
      kept_(std::move(environment.kept)) {
  if (!address_.empty()) socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void ServiceManager::Starting(std::string_view reason) {
  const MutexLock lock(mutex_);
  const std::string status = StatusText(StrCat("starting: ", reason));
  const steady_clock::time_point now = steady_clock::now();
  if (status == toldStatus_ && now - startingTold_ < kBetweenStarting) return;
  startingTold_ = now;
  if (Send(StrCat(MoreTime(kMoreTime), "STATUS=", status, "\n"))) toldStatus_ = status;
}

void ServiceManager::Tell(const State& state) {
  const MutexLock lock(mutex_);
  SayOwed();
  if (state.isReady && !std::exchange(wasReady_, true)) owesReady_ = true;
  const std::string status = StatusText(state.status);
  std::string message;
  if (owesReady_) message += "READY=1\n";
  if (!wasReady_) message += MoreTime(kMoreTime);
  if (state.isAlive && hasWatchdog_) message += "WATCHDOG=1\n";
  if (status != toldStatus_) message += StrCat("STATUS=", status, "\n");
  if (message.empty() || !Send(message)) return;
  owesReady_ = false;
  toldStatus_ = status;
}

void ServiceManager::Reloading() {
  const MutexLock lock(mutex_);
  if (!wasReady_) return;  // READY=1 at its end would say too much
  // Type=notify-reload compares the time with when it asked.
  const auto now = std::chrono::duration_cast<microseconds>(steady_clock::now().time_since_epoch());
  (void)Send(StrCat("RELOADING=1\nMONOTONIC_USEC=", now.count(), "\n"));
}

void ServiceManager::Reloaded() {
  const MutexLock lock(mutex_);
  if (wasReady_) owesReady_ = !Send("READY=1\n");
}

void ServiceManager::Stopping(std::chrono::milliseconds atMost) {
  const MutexLock lock(mutex_);
  (void)Send(StrCat("STOPPING=1\n", MoreTime(atMost + kMoreTime), "STATUS=draining\n"));
}

// FDPOLL=0: what the manager keeps is not watched for a hang-up.
bool ServiceManager::Keep(const std::string& name, int fd) {
  const MutexLock lock(mutex_);
  UniqueFd duplicate(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (address_.empty() || owed_.size() >= kMostOwed || !duplicate.valid()) return false;
  owed_.push_back({name, std::move(duplicate)});
  SayOwed();
  return true;
}

void ServiceManager::Forget(const std::string& name) {
  const MutexLock lock(mutex_);
  std::erase_if(owed_, [&name](const KeptDescriptor& one) { return one.name == name; });
  owed_.push_back({name, UniqueFd()});
  SayOwed();
}

// In the order in which it was asked for.
void ServiceManager::SayOwed() {
  for (; !owed_.empty(); owed_.pop_front()) {
    const KeptDescriptor& one = owed_.front();
    const char* const what = one.fd.valid() ? "FDSTORE=1\nFDPOLL=0\nFDNAME=" : "FDSTOREREMOVE=1\nFDNAME=";
    if (!SendWith(StrCat(what, one.name, "\n"), one.fd.get())) return;
  }
}

std::vector<KeptDescriptor> ServiceManager::TakeKept() {
  const MutexLock lock(mutex_);
  return std::exchange(kept_, {});
}

bool ServiceManager::Send(const std::string& message) { return SendWith(message, -1); }

bool ServiceManager::SendWith(const std::string& message, int fd) {
  if (address_.empty()) return true;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, address_.data(), address_.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  const bool isUnheard = !SendMessage(socket_.get(), message, fd, &address, size);
  if (isUnheard && !isUnheard_) log::Warning("service.notTold", {{"reason", std::strerror(errno)}});
  isUnheard_ = isUnheard;
  return !isUnheard;
}

}  // namespace kveil::daemon
