// The kernel half as one object: loads the programs of bpf/, attaches them to the configured cgroup, pins them, and is
// the only place that touches their maps.
//
//   auto redirect = Redirect::Start(config.intercept);         // connects to targets are refused from here on,
//   Namespaces namespaces(**redirect, ...);                    // until their namespace is served
//   absl::Status ready = (*redirect)->Probe(std::chrono::seconds(5));
//   ... for an accepted socket: absl::StatusOr<Origin> origin = (*redirect)->OriginOf(fd);
//
// Destroying a Redirect leaves everything pinned and attached: with no agent the configured `whenDown` holds.
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
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "config/config.h"
#include "identity/origin.h"
#include "intercept/kernel/listeners.h"

namespace kveil::intercept {

// A connect to a target that the kernel half refused, or, with kHeld, holds until the namespace is served.
struct RefusedConnect {
  enum class Reason {
    kNoListener,
    kForeignListener,
    kNoMemory,
    kDevice,
    kHeld,
    kExpired,     // a learned broker that was neither used nor named for long
    kTooMany,     // too many connects of this workload wait for their acceptance
    kAgentsPort,  // it went straight to where the agent listens
  };
  Reason reason = Reason::kNoListener;
  SocketAddress destination;
  uint64_t netnsCookie = 0;
  uint64_t cgroupId = 0;
  uint64_t shareCgroupId = 0;
  uint32_t pid = 0;
  uint32_t uid = 0;
  int family = 0;      // of the listener that was missing
  uint32_t share = 0;  // the workload's slot, below KVEIL_SHARES: two workloads may have one together
};

struct RedirectOptions {
  // With whenDown bypass: how old the heartbeat must be before the agent counts as gone.
  std::chrono::milliseconds heartbeatTimeout = std::chrono::seconds(5);
  // How long the first connects in a new namespace are held until it is served, about; 0: they are refused at once.
  // Enough for some hundred namespaces of many workloads that come at once, or those that one workload's burst is
  // enough for (ServingTime), and well below the connect timeouts of clients.
  std::chrono::milliseconds holdTime = std::chrono::seconds(4);
  // How long a connection may wait for its acceptance: looked at with each heartbeat.
  std::chrono::milliseconds longestWait = std::chrono::minutes(1);
};

// What became of connects that were held, since the agent started.
struct HeldConnects {
  uint64_t held = 0;
  uint64_t released = 0;  // connected to the agent
  uint64_t ended = 0;     // timed out, or closed by the application
};

class Redirect {
 public:
  // Loads, attaches and pins; takes over what an earlier agent left pinned, without a gap. Needs kAgentCapabilities
  // (access_check.h). Nothing is
  // changed when it fails. Errors: kInvalidArgument (the cgroup or the targets), kFailedPrecondition (another agent
  // runs with these pins, or is attached to this cgroup, above or below it; another program's attachment is in the way,
  // named; the kernel lacks a feature or refuses a program, with the verifier's last lines), kPermissionDenied.
  static absl::StatusOr<std::unique_ptr<Redirect>> Start(const config::InterceptConfig& config,
                                                         const RedirectOptions& options = {});
  ~Redirect();
  Redirect(const Redirect&) = delete;
  Redirect& operator=(const Redirect&) = delete;

  // All of these are safe from any thread and take microseconds.

  // Marks a socket as the agent's: its connects are not redirected, or, for a listener, connects are redirected to it.
  absl::Status TagAsOwn(int fd);

  // kNotFound: not a redirected connection (somebody connected straight to the agent's port): close it.
  absl::StatusOr<identity::Origin> OriginOf(int acceptedFd);

  // From now until `lifetime` from now connects to this address are redirected, too; learning it again prolongs, and so
  // does each accepted connection to it. After that they are refused, until it is learned again. A v4-mapped address is
  // taken as IPv4. kAlreadyExists: it was learned for another cluster; kResourceExhausted: too many are known. Then the
  // caller must not let the client hear of it.
  absl::Status Learn(const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime);

  // An error, in plain words, when a cluster has so many learned brokers that it cannot learn another one.
  absl::Status LearnedHealth() const;

  // Whether a connect to `address` is redirected or, where it was learned, refused now; and for which target it is
  // always redirected, without having been learned.
  bool IsTarget(const SocketAddress& address);
  std::optional<uint16_t> ConfiguredTarget(const SocketAddress& address) const;

  // Makes a child process in a small cgroup connect to a destination of its own, and waits until OriginOf was called
  // for a connection that comes from that cgroup, where nobody else can be. The namespace of the agent must be served.
  // Blocks up to `limit`.
  absl::Status Probe(std::chrono::milliseconds limit);

  // Holds the connect of a child process in a new namespace of its own, as the first connect of a workload is held, and
  // waits until it is let go. After Namespaces has started. When it fails, nothing is held until it is called again:
  // such connects are refused. Blocks up to `limit`.
  absl::Status ProbeHold(std::chrono::milliseconds limit);

  // Takes the pinned links and maps of an agent that does not run away; returns how many links there were.
  // kFailedPrecondition while an agent runs with these pins.
  static absl::StatusOr<int> Detach(const config::InterceptConfig& config);

  // For a start that fails: takes links and maps away again if this Redirect was the first to attach with these pins.
  // Connects are as before then. Returns whether it did. Nothing else may be called afterwards.
  bool TakeAwayIfNew();

  // One line about what is attached where, for `kveil status`.
  std::string Description() const;
  // Whether every program is still attached to the configured cgroup, and pinned there together with the maps, so that
  // it stays when the agent ends. Pins that are taken away are made again within a second.
  absl::Status Health() const;

  // For Namespaces: which namespaces were ever served (bypass is allowed there), what getsockname shows there.
  absl::Status MarkServed(uint64_t netnsCookie);
  // For Namespaces: kUnavailable when the kernel half has not noted this listener of ours, and so sends nobody there.
  absl::Status CheckNoted(int listenerFd, uint64_t netnsCookie) const;
  // For Namespaces: has connects refused in a namespace, though the agent listens there, and takes that back.
  struct ListeningPorts {
    uint16_t v4 = 0, v6 = 0;  // 0: none
  };
  ListeningPorts HideListeners(uint64_t netnsCookie);
  absl::Status ShowListeners(uint64_t netnsCookie, const ListeningPorts& ports);
  void ForgetNamespace(uint64_t netnsCookie);
  absl::StatusOr<std::vector<uint64_t>> ServedNamespaces() const;
  void ForgetSources(uint64_t netnsCookie);
  // KVEIL_ANY_TARGET: towards all targets without an address of their own. nullopt takes the target's own away.
  absl::Status SetSourceAddress(uint64_t netnsCookie, uint16_t targetIndex, int family,
                                const std::optional<SocketAddress>& address);
  // For Namespaces: readable while there are events; ReadEvents calls `handler` for each of the first
  // `most`, so that workloads that make them faster than they are handled hold nothing else up. Returns how many there
  // were. One thread only.
  int eventFd() const;
  size_t ReadEvents(const std::function<void(const RefusedConnect&)>& handler, size_t most);
  // For Namespaces: a cgroup below the configured one, in which the listeners and the probe are made. A listener passes
  // its cgroup on to what it accepts, so the programs see accepted sockets wherever the agent itself runs.
  ListenerPlace listenerPlace() const;
  std::chrono::milliseconds holdTime() const;
  HeldConnects heldConnects() const;
  int agentCgroupFd() const;
  // Makes that cgroup anew when somebody has removed it. Any thread.
  absl::Status RepairAgentCgroup();
  const config::InterceptConfig& config() const;

 private:
  struct State;
  explicit Redirect(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::intercept
