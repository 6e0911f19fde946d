#include "daemon/service_manager.h"

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
#include "base/log.h"
#include "base/text.h"

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
  return environment;
}

ServiceManager::ServiceManager(const Environment& environment)
    : address_(SocketPath(environment.notifySocket)), hasWatchdog_(environment.hasWatchdog) {
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

bool ServiceManager::Send(const std::string& message) {
  if (address_.empty()) return true;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, address_.data(), address_.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  const ssize_t sent = ::sendto(socket_.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                                reinterpret_cast<const sockaddr*>(&address), size);
  const bool isUnheard = sent < 0;
  if (isUnheard && !isUnheard_) log::Warning("service.notTold", {{"reason", std::strerror(errno)}});
  isUnheard_ = isUnheard;
  return !isUnheard;
}

}  // namespace kveil::daemon
