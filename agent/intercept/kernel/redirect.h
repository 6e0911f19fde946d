// The kernel half as one object: loads the programs of bpf/, attaches them to the configured cgroup, pins them, and is
// the only place that touches their maps.
//
//   auto redirect = Redirect::Start(config.intercept);         // connects to targets are refused from here on,
//   Namespaces namespaces(**redirect, ...);                    // until their namespace is served
//   absl::Status ready = (*redirect)->Probe(std::chrono::seconds(5));
//   ... for an accepted socket: absl::StatusOr<Origin> origin = (*redirect)->OriginOf(fd);
//
// Destroying a Redirect leaves everything pinned and attached: without an agent, the configured `whenDown` applies.
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
    kTooMany,     // too many connects of this workload wait to be accepted
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
  uint32_t share = 0;  // the workload's slot, below KVEIL_SHARES; two workloads may have the same
};

struct RedirectOptions {
  // With whenDown bypass: how old the heartbeat must be before the agent counts as gone.
  std::chrono::milliseconds heartbeatTimeout = std::chrono::seconds(5);
  // About how long the first connects in a new namespace are held until it is served; 0: they are refused at once.
  // Enough for some hundred namespaces of many workloads at once, or for those that one workload's burst covers
  // (ServingTime), and well below the connect timeouts of clients.
  std::chrono::milliseconds holdTime = std::chrono::seconds(4);
  // How long a connection may wait to be accepted; checked with each heartbeat.
  std::chrono::milliseconds longestWait = std::chrono::minutes(1);
};

// What became of held connects since the agent started.
struct HeldConnects {
  uint64_t held = 0;
  uint64_t released = 0;  // connected to the agent
  uint64_t ended = 0;     // timed out, or closed by the application
};

class Redirect {
 public:
  // Loads, attaches and pins; takes over, without a gap, what an earlier agent left pinned. Needs kAgentCapabilities
  // (access_check.h). Changes nothing if it fails. kInvalidArgument: the cgroup or the targets. kFailedPrecondition:
  // another agent runs with these pins, or is attached to this cgroup or to one above or below it; another program's
  // attachment, which is named, is in the way; the kernel lacks a feature or refuses a program, with the verifier's
  // last lines. kPermissionDenied.
  static absl::StatusOr<std::unique_ptr<Redirect>> Start(const config::InterceptConfig& config,
                                                         const RedirectOptions& options = {});
  ~Redirect();
  Redirect(const Redirect&) = delete;
  Redirect& operator=(const Redirect&) = delete;

  // Any thread may call these. Unless they say otherwise, they take microseconds.

  // Marks a socket as the agent's: its connects are not redirected, or, for a listener, connects are redirected to it.
  absl::Status TagAsOwn(int fd);

  // Where an accepted connection was going, and who opened it. kNotFound: it was not redirected (somebody connected
  // straight to the agent's port), or not to a target. Close it after any error.
  absl::StatusOr<identity::Origin> OriginOf(int acceptedFd);

  // Redirects connects to this address, too, until `lifetime` from now. Learning it again prolongs that, and so does
  // each accepted connection to it. After that, connects are refused until it is learned again. A v4-mapped address
  // counts as IPv4. kAlreadyExists: it was learned for another cluster. kResourceExhausted: too many are known. After
  // an error, the caller must not tell the client of the broker.
  absl::Status Learn(const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime);

  // kResourceExhausted: a cluster has so many learned brokers that it cannot learn another.
  absl::Status LearnedHealth() const;

  // Whether a connect to `address` is redirected or, if it was learned and has expired, refused.
  bool IsTarget(const SocketAddress& address);
  // The configured target that `address` belongs to; learned brokers do not count.
  std::optional<uint16_t> ConfiguredTarget(const SocketAddress& address) const;

  // Connects to the probe's destination from a child process in the agent's cgroup, where nobody else can be, and waits
  // until OriginOf is called for that connection. The agent's namespace must be served. Blocks up to `limit`.
  absl::Status Probe(std::chrono::milliseconds limit);

  // Checks that the connect of a child process in a new namespace is held, as the first connect of a workload is, and
  // then released. Call it after Namespaces has started. If it fails, such connects are refused instead of held, until
  // it is called again. Blocks up to `limit`.
  absl::Status ProbeHold(std::chrono::milliseconds limit);

  // Removes the links and maps that an ended agent left pinned. Returns the number of links. kFailedPrecondition: an
  // agent runs with these pins.
  static absl::StatusOr<int> Detach(const config::InterceptConfig& config);

  // For a start that fails: removes links and maps again if this Redirect was the first to attach with these pins.
  // Connects are then as before. Returns whether it did. Call nothing else afterwards.
  bool TakeAwayIfNew();

  // One line about what is attached where, for `kveil status`.
  std::string Description() const;
  // Whether every program is still attached to the configured cgroup and pinned there, together with the maps, so that
  // it stays when the agent ends. Pins that were removed are made again within a second.
  absl::Status Health() const;

  // For Namespaces: notes that a namespace was served, which allows bypass there.
  absl::Status MarkServed(uint64_t netnsCookie);
  // For Namespaces: kUnavailable if the kernel half has not noted this listener, so that it redirects nobody there.
  absl::Status CheckNoted(int listenerFd, uint64_t netnsCookie) const;
  // For Namespaces: makes connects fail in a namespace although the agent listens there, and undoes that.
  struct ListeningPorts {
    uint16_t v4 = 0, v6 = 0;  // 0: none
  };
  ListeningPorts HideListeners(uint64_t netnsCookie);
  absl::Status ShowListeners(uint64_t netnsCookie, const ListeningPorts& ports);
  void ForgetNamespace(uint64_t netnsCookie);
  absl::StatusOr<std::vector<uint64_t>> ServedNamespaces() const;
  void ForgetSources(uint64_t netnsCookie);
  // The address that getsockname shows towards a target. KVEIL_ANY_TARGET: towards all targets without their own.
  // nullopt removes it.
  absl::Status SetSourceAddress(uint64_t netnsCookie, uint16_t targetIndex, int family,
                                const std::optional<SocketAddress>& address);
  // For Namespaces: readable while there are events. ReadEvents calls `handler` for the first `most` of them and
  // returns how many there were. The bound keeps workloads that cause events faster than they are handled from holding
  // up anything else. One thread only.
  int eventFd() const;
  size_t ReadEvents(const std::function<void(const RefusedConnect&)>& handler, size_t most);
  // For Namespaces: the cgroup below the configured one in which the listeners and the probe are made. Accepted sockets
  // get their listener's cgroup, so the programs see them wherever the agent itself runs.
  ListenerPlace listenerPlace() const;
  std::chrono::milliseconds holdTime() const;
  HeldConnects heldConnects() const;
  int agentCgroupFd() const;
  // Makes that cgroup again if somebody has removed it. Any thread.
  absl::Status RepairAgentCgroup();
  const config::InterceptConfig& config() const;

 private:
  struct State;
  explicit Redirect(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::intercept
