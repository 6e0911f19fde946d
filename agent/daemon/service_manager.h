// Tells the service manager how the agent is, by systemd's protocol: datagrams with one "NAME=value" per line, sent to
// the socket that the environment names. sd_notify(3) and sd_listen_fds(3) document the protocol as stable for programs
// that do not link libsystemd. It is one call of sendmsg(2), so the library would bring more than it saves.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/descriptor_store.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace kveil::daemon {

// Any thread. Never waits. What cannot be sent is said again in the next message. Does nothing without a service
// manager. Keeps descriptors in its file descriptor store, which lives as long as the service is not stopped.
class ServiceManager : public DescriptorStore {
 public:
  struct Environment {
    std::string notifySocket;          // a path, or '@' and an abstract name; empty: there is no service manager
    bool hasWatchdog = false;          // it ends an agent that does not say that it is alive
    std::vector<KeptDescriptor> kept;  // what earlier processes had kept
  };
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, and removes them from
  // the environment, so that no process that the agent starts can speak for it. Call it once, before any thread is
  // made. Logs what makes no sense.
  static Environment TakeEnvironment();

  explicit ServiceManager(Environment environment);

  // The start waits for something. Gives it more time. May be called as often as one likes.
  void Starting(std::string_view reason);

  struct State {
    bool isReady = false;
    bool isAlive = false;     // false: only a new process would help
    std::string_view status;  // for people
  };
  // Call it about once a second. READY=1 goes out when the agent is ready for the first time, WATCHDOG=1 each time that
  // it is alive. Until it has been ready, its start gets more time.
  void Tell(const State& state);

  // Before and after a reload of the configuration.
  void Reloading();
  void Reloaded();

  // The agent ends, in so long at most.
  void Stopping(std::chrono::milliseconds atMost);

  // The manager may keep fewer than it is given: it does not say so. What it has no time to hear now is said again with
  // the next Tell. False: too much waits for that.
  bool Keep(const std::string& name, int fd) override;
  void Forget(const std::string& name) override;
  std::vector<KeptDescriptor> TakeKept() override;

 private:
  // Whether it was sent, or nobody wants to hear it.
  bool Send(const std::string& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same, with a descriptor; -1: without.
  bool SendWith(const std::string& message, int fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Says what is owed of descriptors, as far as the manager hears it now.
  void SayOwed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::string address_;  // sun_path's bytes: an abstract name begins with a zero byte; empty: nobody to tell
  bool hasWatchdog_;
  UniqueFd socket_;

  Mutex mutex_;
  bool wasReady_ ABSL_GUARDED_BY(mutex_) = false;
  bool owesReady_ ABSL_GUARDED_BY(mutex_) = false;           // READY=1 has to go out
  bool isUnheard_ ABSL_GUARDED_BY(mutex_) = false;           // the last message could not be sent
  std::deque<KeptDescriptor> owed_ ABSL_GUARDED_BY(mutex_);  // to keep; without a descriptor: to forget
  std::vector<KeptDescriptor> kept_ ABSL_GUARDED_BY(mutex_);
  std::string toldStatus_ ABSL_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point startingTold_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::daemon
