// Finds the network namespaces of the workloads, serves them, and lets go of them when their last workload has ended.
//
// A namespace is known by its cookie (SO_NETNS_COOKIE), never by a pid, a path or an inode: those come back as somebody
// else. It is served as long as a process in a cgroup below the configured one lives in it, the agent's own namespace
// always.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "intercept/kernel/redirect.h"

namespace kveil::intercept {

class Namespaces {
 public:
  // Called on the Namespaces thread; they must not block for long and must not call Stop.
  struct Callbacks {
    // Listening non-blocking sockets on 127.0.0.1 and, where the namespace has IPv6, ::1; the owner accepts on all of
    // them. Called again for the same namespace when a listener could only be made later.
    std::function<void(uint64_t netnsCookie, std::vector<UniqueFd> listeners)> serve;
    // The last workload has ended: the owner closes the listeners and every connection of that namespace, in whatever
    // time draining takes, then calls Released. Until then the namespace stays alive.
    std::function<void(uint64_t netnsCookie)> release;
  };

  struct Options {
    // How often everything is compared with the kernel's facts (processes of the cgroups, their namespaces).
    std::chrono::milliseconds reconcileInterval = std::chrono::seconds(5);
  };

  // Serves the agent's own namespace and those of the workloads that run before it returns; a namespace that cannot be
  // served is in Health() or WorkloadsNotServed() and is tried again, only the agent's own one makes Start fail.
  // `redirect` must outlive the result.
  static absl::StatusOr<std::unique_ptr<Namespaces>> Start(Redirect& redirect, Callbacks callbacks, Options options);
  static absl::StatusOr<std::unique_ptr<Namespaces>> Start(Redirect& redirect, Callbacks callbacks);
  ~Namespaces();  // Stop()
  Namespaces(const Namespaces&) = delete;
  Namespaces& operator=(const Namespaces&) = delete;

  // Ends the threads; no callback comes after it. Listeners and connections are their owner's to close.
  void Stop();

  // A tagged, non-blocking TCP socket made inside that namespace, for the connection to the broker. Any thread, takes
  // microseconds. kNotFound: the namespace is not served (any more).
  // It leaves by the device and from the address that the application had bound its own socket to.
  absl::StatusOr<UniqueFd> UpstreamSocket(const identity::Origin& origin);
  // Any other tagged, non-blocking socket there.
  absl::StatusOr<UniqueFd> SocketIn(uint64_t netnsCookie, int family, int type, int protocol);

  // The owner holds nothing of that namespace any more. Any thread.
  void Released(uint64_t netnsCookie);

  struct NamespaceStatus {
    uint64_t netnsCookie = 0;
    uint64_t inode = 0;    // as in /proc/PID/ns/net
    uint32_t process = 0;  // one workload in it; 0: none is known, or the agent's own
    bool isOwn = false;    // the agent's
    enum class State { kServed, kReleasing, kFailed } state = State::kServed;
    bool ipv6 = false;
    uint64_t refusedConnects = 0;   // since the agent started
    uint64_t resetConnections = 0;  // that were older than the agent, with `existing: reset`
    absl::Status resetProblem;      // why older connections may be there still, with `existing: reset`
    absl::Status problem;           // what keeps it from being served, or what could not be done there
  };
  // Any thread.
  std::vector<NamespaceStatus> Status() const;
  std::optional<NamespaceStatus> StatusOf(uint64_t netnsCookie) const;
  // Not OK when the agent's own namespace is not served, or another for a fault of the agent's (descriptors, child
  // processes, setns): which and why, in plain words.
  absl::Status Health() const;
  // The same of namespaces that workloads have made such that they cannot be served (no 127.0.0.1, no free port).
  // Connects to targets are refused there, and nobody else notices.
  absl::Status WorkloadsNotServed() const;
  // Asks the thread for a sign of life, and says whether it has not given one for `limit` since it was asked. Any one
  // thread; call it once a second or so.
  absl::Status CheckThread(std::chrono::milliseconds limit);
  // An error names a workload that has as many namespaces as are served for one, or had as much of the shared tables as
  // it may have within the last minute.
  absl::Status SharesHealth() const;
  // Not OK while connects come, and have come for seconds, from a namespace that cannot be found.
  absl::Status Unserved() const;
  // Not OK where processes of the workloads are in a pid namespace that the agent does not see, or where it could not
  // look at all of them.
  absl::Status SeesAllProcesses() const;
  // Not OK where `existing: reset` could not reset.
  absl::Status NotReset() const;

 private:
  struct State;
  explicit Namespaces(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::intercept
