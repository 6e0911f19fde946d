// Finds the network namespaces of the workloads, serves them, and releases them when their last workload has ended.
//
// A namespace is known by its cookie (SO_NETNS_COOKIE), never by a pid, a path or an inode, which the kernel reuses. It
// is served as long as a process in a cgroup below the configured one lives in it; the agent's own namespace always is.
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
#include "base/descriptor_store.h"
#include "base/unique_fd.h"
#include "intercept/kernel/redirect.h"

namespace kveil::intercept {

class Namespaces {
 public:
  // Called on the Namespaces thread; they must not block for long and must not call Stop.
  struct Callbacks {
    // Takes listening, non-blocking sockets on 127.0.0.1 and, if the namespace has IPv6, ::1; the owner accepts on all
    // of them. Called again for the same namespace if a listener could only be made later.
    std::function<void(uint64_t netnsCookie, std::vector<UniqueFd> listeners)> serve;
    // The last workload has ended. The owner drains and closes all listeners and connections of that namespace, then
    // calls Released. Until then the namespace stays alive.
    std::function<void(uint64_t netnsCookie)> release;
  };

  struct Options {
    // How often to compare everything with the kernel's facts (processes of the cgroups, their namespaces).
    std::chrono::milliseconds reconcileInterval = std::chrono::seconds(5);
    // Where the listeners are kept while the agent restarts. nullptr: nowhere, then connects are refused meanwhile. It
    // outlives the result.
    DescriptorStore* store = nullptr;
  };

  // Before it returns, serves the agent's own namespace and those of the workloads that run. Fails only if the agent's
  // own cannot be served; others are tried again, and reported by Health() or WorkloadsNotServed(). `redirect` must
  // outlive the result.
  static absl::StatusOr<std::unique_ptr<Namespaces>> Start(Redirect& redirect, Callbacks callbacks, Options options);
  static absl::StatusOr<std::unique_ptr<Namespaces>> Start(Redirect& redirect, Callbacks callbacks);
  ~Namespaces();  // Stop()
  Namespaces(const Namespaces&) = delete;
  Namespaces& operator=(const Namespaces&) = delete;

  // Ends the threads; no callback comes after it. The owner closes listeners and connections.
  void Stop();

  // A tagged, non-blocking TCP socket inside the origin's namespace, for the connection to the broker. It uses the
  // device and the address that the application bound its own socket to. Any thread; takes microseconds. kNotFound: the
  // namespace is not served (any more). kUnavailable: the socket could not be made or bound.
  absl::StatusOr<UniqueFd> UpstreamSocket(const identity::Origin& origin);
  // Any other tagged, non-blocking socket inside a namespace.
  absl::StatusOr<UniqueFd> SocketIn(uint64_t netnsCookie, int family, int type, int protocol);

  // Says that the owner holds nothing of that namespace any more. Any thread.
  void Released(uint64_t netnsCookie);

  struct NamespaceStatus {
    uint64_t netnsCookie = 0;
    uint64_t inode = 0;    // as in /proc/PID/ns/net
    uint32_t process = 0;  // a workload in it; 0: none is known, or the agent's own
    bool isOwn = false;    // the agent's
    enum class State { kServed, kReleasing, kFailed } state = State::kServed;
    bool ipv6 = false;
    uint64_t refusedConnects = 0;   // since the agent started
    uint64_t resetConnections = 0;  // older than the agent, with `existing: reset`
    absl::Status resetProblem;      // why older connections may remain, with `existing: reset`
    absl::Status problem;           // why it is not served, or what could not be done there
  };
  // Any thread.
  std::vector<NamespaceStatus> Status() const;
  std::optional<NamespaceStatus> StatusOf(uint64_t netnsCookie) const;
  // Not OK if the agent's own namespace is not served, or another one through a fault of the agent (descriptors, child
  // processes, setns). Says which and why.
  absl::Status Health() const;
  // The same for namespaces that their workloads made so that they cannot be served (no 127.0.0.1, no free port).
  // Connects to targets are refused there; other namespaces do not notice.
  absl::Status WorkloadsNotServed() const;
  // Asks the thread for a sign of life. kUnavailable if it has given none for `limit` since it was asked. Call it from
  // one thread, about once per second.
  absl::Status CheckThread(std::chrono::milliseconds limit);
  // An error names a workload or user that has reached its limit of namespaces or, within the last minute, its share of
  // the agent's time or of the shared tables.
  absl::Status SharesHealth() const;
  // Not OK while connects from a namespace that cannot be found have gone on for seconds.
  absl::Status Unserved() const;
  // Not OK if processes of the workloads are in a pid namespace that the agent does not see, or if it could not look at
  // all processes.
  absl::Status SeesAllProcesses() const;
  // Not OK if `existing: reset` could not reset.
  absl::Status NotReset() const;

 private:
  struct State;
  explicit Namespaces(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::intercept
