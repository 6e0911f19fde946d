// Loads and attaches the programs, and reads and writes their maps.
#include "intercept/kernel/redirect.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "base/text.h"
#include "intercept.h"
#include "intercept/kernel/access_check.h"
#include "intercept/kernel/attachments.h"
#include "intercept/kernel/bpf_map.h"
#include "intercept/kernel/endpoint.h"
#include "intercept/kernel/heartbeat.h"
#include "intercept/kernel/hold_probe.h"
#include "intercept/kernel/learned_brokers.h"
#include "intercept/kernel/other_agents.h"
#include "intercept/kernel/pins.h"
#include "intercept/kernel/probe.h"
#include "intercept/kernel/programs.h"
#include "intercept/kernel/target_table.h"
#include "intercept/kernel/waiting_connections.h"
#include "intercept/system/agent_cgroup.h"
#include "intercept/system/cgroup_tree.h"
#include "intercept/system/host_mount.h"

namespace kveil::intercept {
namespace {

struct FreeRingBuffer {
  void operator()(ring_buffer* buffer) const { ring_buffer__free(buffer); }
};

absl::Status MapError(std::string_view what) {
  const std::string message = StrCat(what, ": ", std::strerror(errno));
  return errno == E2BIG ? absl::ResourceExhaustedError(message) : absl::InternalError(message);
}

kveil_listening_key ListeningKey(uint64_t netnsCookie, uint16_t family) {
  kveil_listening_key key = {};
  key.netns_cookie = netnsCookie;
  key.family = family;
  return key;
}

RefusedConnect::Reason ToReason(uint32_t reason) {
  switch (reason) {
    case KVEIL_FOREIGN_LISTENER:
      return RefusedConnect::Reason::kForeignListener;
    case KVEIL_NO_MEMORY:
      return RefusedConnect::Reason::kNoMemory;
    case KVEIL_DEVICE:
      return RefusedConnect::Reason::kDevice;
    case KVEIL_HELD:
      return RefusedConnect::Reason::kHeld;
    case KVEIL_EXPIRED:
      return RefusedConnect::Reason::kExpired;
    case KVEIL_TOO_MANY:
      return RefusedConnect::Reason::kTooMany;
    case KVEIL_AGENTS_PORT:
      return RefusedConnect::Reason::kAgentsPort;
    default:
      return RefusedConnect::Reason::kNoListener;
  }
}

}  // namespace

struct Redirect::State {
  State(config::InterceptConfig config, const RedirectOptions& options, CgroupTree cgroup, TargetTable targets,
        PinDirectory pins, Programs programs)
      : config(std::move(config)),
        options(options),
        cgroup(std::move(cgroup)),
        targets(std::move(targets)),
        pins(std::move(pins)),
        programs(std::move(programs)),
        learned(this->programs.learned(), this->config.targets) {}

  void Beat();
  uint64_t LastHeartbeat() const;  // an earlier agent's; 0 when there is none
  absl::Status PinsStatus();
  static int OnEvent(void* self, void* data, size_t size);

  const config::InterceptConfig config;
  const RedirectOptions options;
  bool isNew = false;  // there were no links before
  const CgroupTree cgroup;
  const TargetTable targets;
  PinDirectory pins;
  Programs programs;
  LearnedBrokers learned;
  std::optional<WaitingConnections> waiting;
  std::chrono::milliseconds longestWait{};
  intercept::Probe probe;  // not Redirect::Probe
  Mutex probing;
  std::optional<AgentCgroup> agentCgroup;
  std::optional<Attachments> attachments;
  std::unique_ptr<ring_buffer, FreeRingBuffer> events;
  const std::function<void(const RefusedConnect&)>* eventHandler = nullptr;
  size_t eventsHandled = 0, mostEvents = 0;  // of one ReadEvents
  Mutex pinsMutex;
  absl::Status pinsStatus ABSL_GUARDED_BY(pinsMutex);
  std::optional<Heartbeat> heartbeat;  // last: its thread uses the rest
};

void Redirect::State::Beat() {
  const uint32_t zero = 0;
  const uint64_t now = MonotonicNanoseconds();
  ::bpf_map_update_elem(programs.heartbeat(), &zero, &now, BPF_ANY);
  waiting->RemoveOlderThan(longestWait);
  absl::Status restored = pins.Restore();
  const MutexLock lock(pinsMutex);
  pinsStatus = std::move(restored);
}

uint64_t Redirect::State::LastHeartbeat() const {
  const uint32_t zero = 0;
  uint64_t seen = 0;
  return ::bpf_map_lookup_elem(programs.heartbeat(), &zero, &seen) == 0 ? seen : 0;
}

absl::Status Redirect::State::PinsStatus() {
  const MutexLock lock(pinsMutex);
  return pinsStatus;
}

int Redirect::State::OnEvent(void* self, void* data, size_t size) {
  auto& state = *static_cast<State*>(self);
  // libbpf stops after an event whose result is negative, and has consumed it.
  const int result = ++state.eventsHandled < state.mostEvents ? 0 : -ECANCELED;
  if (size < sizeof(kveil_event) || state.eventHandler == nullptr) return result;
  const auto& event = *static_cast<const kveil_event*>(data);
  RefusedConnect refused;
  refused.reason = ToReason(event.reason);
  refused.destination = ToSocketAddress(event.destination);
  refused.netnsCookie = event.netns_cookie;
  refused.cgroupId = event.cgroup_id;
  refused.shareCgroupId = event.share_cgroup;
  refused.pid = event.pid;
  refused.uid = event.uid;
  refused.family = static_cast<int>(event.family);
  refused.share = event.share;
  (*state.eventHandler)(refused);
  return result;
}

Redirect::Redirect(std::unique_ptr<State> state) : state_(std::move(state)) {}
Redirect::~Redirect() = default;

absl::StatusOr<std::unique_ptr<Redirect>> Redirect::Start(const config::InterceptConfig& config,
                                                          const RedirectOptions& options) {
  absl::Status capable = CheckCapabilities("intercepting connections", kAgentCapabilities);
  if (!capable.ok()) return capable;
  absl::StatusOr<CgroupTree> cgroup = CgroupTree::Open(config.cgroup);
  if (!cgroup.ok()) return cgroup.status();
  if (const std::string warning = cgroup->NamespaceWarning(); !warning.empty()) {
    log::Warning("intercept.cgroup", {{"problem", warning}});
  }
  if (const std::string warning = ContainerWarning(); !warning.empty()) {
    log::Warning("intercept.pins", {{"problem", warning}});
  }
  absl::StatusOr<TargetTable> targets = TargetTable::Compile(config.targets);
  if (!targets.ok()) return targets.status();
  absl::StatusOr<PinDirectory> pins = PinDirectory::Lock(config.pinDirectory);
  if (!pins.ok()) return pins.status();
  if (absl::Status alone = CheckNoOtherAgent(*cgroup, *pins); !alone.ok()) return alone;
  const bool isNew = pins->Links().empty();
  const Programs::Settings settings = {
      .interceptedCgroup = cgroup->id(),
      .workloadLevel = cgroup->workloadLevel(),
      .listenPort = config.listenPort,
      .bypassWhenDown = config.whenDown == config::WhenDown::kBypass,
      .heartbeatTimeout = static_cast<uint64_t>(std::chrono::nanoseconds(options.heartbeatTimeout).count()),
      .holdTime = static_cast<uint64_t>(std::chrono::nanoseconds(options.holdTime).count())};
  absl::StatusOr<Programs> programs = Programs::Load(*pins, settings, *targets);
  if (!programs.ok()) return programs.status();

  auto state = std::make_unique<State>(config, options, *std::move(cgroup), *std::move(targets), *std::move(pins),
                                       *std::move(programs));
  absl::StatusOr<AgentCgroup> agentCgroup = AgentCgroup::Make(state->cgroup.path());
  if (!agentCgroup.ok()) return agentCgroup.status();
  state->agentCgroup.emplace(*std::move(agentCgroup));
  state->programs.SetAgentCgroup(state->agentCgroup->id());
  state->isNew = isNew;
  state->events.reset(ring_buffer__new(state->programs.events(), State::OnEvent, state.get(), nullptr));
  if (!state->events) return MapError("cannot read the kernel's events");
  absl::StatusOr<WaitingConnections> waiting =
      WaitingConnections::Open(state->programs.interim(), state->programs.shares());
  if (!waiting.ok()) return waiting.status();
  state->waiting.emplace(*std::move(waiting));
  state->waiting->Recount();
  state->longestWait = options.longestWait;
  absl::Status pinned = state->programs.PinMaps(state->pins);
  if (!pinned.ok()) return pinned;
  absl::StatusOr<Attachments> attachments = Attachments::Make(state->programs.programs(), state->cgroup, state->pins);
  if (!attachments.ok()) {
    state->programs.UnpinMaps();
    return attachments.status();
  }
  // From here on everything stays.
  state->attachments.emplace(*std::move(attachments));
  state->pins.Keep();
  state->pins.RemoveOldMaps();
  if (absl::Status adopted = state->learned.Adopt(state->targets, state->LastHeartbeat()); !adopted.ok())
    return adopted;
  State& running = *state;
  running.heartbeat.emplace(options.heartbeatTimeout / 5, [&running] { running.Beat(); });
  return std::unique_ptr<Redirect>(new Redirect(std::move(state)));
}

absl::Status Redirect::TagAsOwn(int fd) {
  const uint32_t tag = KVEIL_OWN_SOCKET;
  if (::bpf_map_update_elem(state_->programs.ownSockets(), &fd, &tag, BPF_ANY) == 0) return absl::OkStatus();
  return MapError("cannot tag a socket as the agent's");
}

absl::StatusOr<identity::Origin> Redirect::OriginOf(int acceptedFd) {
  kveil_origin found;
  if (::bpf_map_lookup_elem(state_->programs.accepted(), &acceptedFd, &found) < 0) {
    if (errno == ENOENT) return absl::NotFoundError("this connection was not redirected");
    return MapError("cannot read a connection's origin");
  }
  sockaddr_storage peer;
  socklen_t size = sizeof(peer);
  if (::getpeername(acceptedFd, reinterpret_cast<sockaddr*>(&peer), &size) < 0) {
    return absl::UnavailableError(StrCat("the client is gone: ", std::strerror(errno)));
  }
  absl::StatusOr<SocketAddress> source = SocketAddress::From(reinterpret_cast<const sockaddr*>(&peer), size);
  if (!source.ok()) return source.status();
  identity::Origin origin;
  origin.destination = ToSocketAddress(found.destination);
  origin.source = WithoutMapping(*source);
  origin.netnsCookie = found.netns_cookie;
  origin.cgroupId = found.cgroup_id;
  origin.shareCgroupId = found.share_cgroup;
  origin.uid = found.uid;
  origin.pid = found.pid;
  origin.boundDevice = found.bound_device;
  // Looked up again, whatever index the kernel half noted: an origin may be older than this agent and its
  // configuration.
  std::optional<uint16_t> target = state_->targets.Find(origin.destination);
  if (!target.has_value()) target = state_->learned.Use(origin.destination);
  if (!target.has_value()) {
    return absl::NotFoundError(StrCat(origin.destination.Text(), " is no target of this agent's configuration"));
  }
  origin.targetIndex = *target;
  origin.isProbe = *target == KVEIL_PROBE_TARGET;
  if (origin.isProbe) {
    // Any workload can connect there, but not from the agent's cgroup.
    if (found.cgroup_id != state_->agentCgroup->id()) return absl::NotFoundError("a connect to the agent's own probe");
    state_->probe.Arrived();
  }
  return origin;
}

absl::Status Redirect::Learn(const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime) {
  if (targetIndex >= state_->config.targets.size()) return absl::InvalidArgumentError("no such target");
  return state_->learned.Learn(broker, targetIndex, lifetime);
}

absl::Status Redirect::LearnedHealth() const { return state_->learned.Health(); }

bool Redirect::IsTarget(const SocketAddress& address) {
  return state_->targets.Find(address).has_value() || state_->learned.Knows(address);
}

std::optional<uint16_t> Redirect::ConfiguredTarget(const SocketAddress& address) const {
  const std::optional<uint16_t> found = state_->targets.Find(address);
  return found == KVEIL_PROBE_TARGET ? std::nullopt : found;
}

absl::Status Redirect::Probe(std::chrono::milliseconds limit) {
  const MutexLock lock(state_->probing);
  return state_->probe.Run(state_->agentCgroup->fd(), limit);
}

absl::Status Redirect::ProbeHold(std::chrono::milliseconds limit) {
  state_->programs.Hold(holdTime());
  const absl::Status held = RunHoldProbe(state_->agentCgroup->fd(), limit);
  if (!held.ok()) state_->programs.Hold({});
  return held;
}

absl::StatusOr<int> Redirect::Detach(const config::InterceptConfig& config) {
  absl::Status capable = CheckCapabilities("detaching", 1u << CAP_SYS_ADMIN);
  if (!capable.ok()) return capable;
  if (::access(config.pinDirectory.c_str(), F_OK) < 0) return 0;
  absl::StatusOr<PinDirectory> pins = PinDirectory::Lock(config.pinDirectory);
  if (!pins.ok()) return pins.status();
  ::rmdir(StrCat(config.cgroup, "/", AgentCgroup::kName).c_str());
  return pins->RemoveAll();
}

bool Redirect::TakeAwayIfNew() {
  if (!state_->isNew) return false;
  state_->heartbeat.reset();  // it would pin again what is missing
  state_->attachments.reset();
  return state_->pins.RemoveAll().ok();
}

std::string Redirect::Description() const {
  return StrCat(state_->attachments->count(), " programs attached to ", state_->cgroup.path(), " (cgroup ",
                state_->cgroup.id(), "), pinned in ", state_->config.pinDirectory);
}

absl::Status Redirect::Health() const {
  absl::Status status = state_->attachments->Check(state_->cgroup);
  status.Update(state_->PinsStatus());
  return status;
}

absl::Status Redirect::MarkServed(uint64_t netnsCookie) {
  const uint8_t one = 1;
  if (::bpf_map_update_elem(state_->programs.served(), &netnsCookie, &one, BPF_ANY) == 0) return absl::OkStatus();
  return MapError("cannot note a namespace as served");
}

absl::Status Redirect::CheckNoted(int listenerFd, uint64_t netnsCookie) const {
  sockaddr_storage own = {};
  socklen_t size = sizeof(own);
  if (::getsockname(listenerFd, reinterpret_cast<sockaddr*>(&own), &size) < 0) {
    return absl::UnavailableError(StrCat("cannot read a listener's address: ", std::strerror(errno)));
  }
  const absl::StatusOr<SocketAddress> address = SocketAddress::From(reinterpret_cast<const sockaddr*>(&own), size);
  if (!address.ok()) return address.status();
  const kveil_listening_key key = ListeningKey(netnsCookie, static_cast<uint16_t>(address->family()));
  uint16_t port = 0;
  if (::bpf_map_lookup_elem(state_->programs.listening(), &key, &port) == 0 && port == address->port()) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(StrCat("the kernel half has not noted the listener at ", address->Text(),
                                       ": its table is full, or another sockops program stands in its way"));
}

Redirect::ListeningPorts Redirect::HideListeners(uint64_t netnsCookie) {
  ListeningPorts ports;
  const int map = state_->programs.listening();
  for (const auto& [family, port] : {std::pair(KVEIL_FAMILY_V4, &ports.v4), std::pair(KVEIL_FAMILY_V6, &ports.v6)}) {
    const kveil_listening_key key = ListeningKey(netnsCookie, family);
    ::bpf_map_lookup_elem(map, &key, port);
    ::bpf_map_delete_elem(map, &key);
  }
  return ports;
}

absl::Status Redirect::ShowListeners(uint64_t netnsCookie, const ListeningPorts& ports) {
  for (const auto& [family, port] : {std::pair(KVEIL_FAMILY_V4, &ports.v4), std::pair(KVEIL_FAMILY_V6, &ports.v6)}) {
    const kveil_listening_key key = ListeningKey(netnsCookie, family);
    if (*port != 0 && ::bpf_map_update_elem(state_->programs.listening(), &key, port, BPF_ANY) < 0) {
      return MapError("cannot note the agent's port");
    }
  }
  return absl::OkStatus();
}

void Redirect::ForgetNamespace(uint64_t netnsCookie) {
  ::bpf_map_delete_elem(state_->programs.served(), &netnsCookie);
  (void)HideListeners(netnsCookie);
  ForgetSources(netnsCookie);
}

void Redirect::ForgetSources(uint64_t netnsCookie) {
  for (const kveil_source_key& key : KeysOf<kveil_source_key>(state_->programs.sources())) {
    if (key.netns_cookie == netnsCookie) ::bpf_map_delete_elem(state_->programs.sources(), &key);
  }
}

absl::StatusOr<std::vector<uint64_t>> Redirect::ServedNamespaces() const {
  return KeysOf<uint64_t>(state_->programs.served());
}

absl::Status Redirect::SetSourceAddress(uint64_t netnsCookie, uint16_t targetIndex, int family,
                                        const std::optional<SocketAddress>& address) {
  kveil_source_key key = {};
  key.netns_cookie = netnsCookie;
  key.target = targetIndex;
  key.family = static_cast<uint16_t>(family);
  if (!address.has_value()) {
    ::bpf_map_delete_elem(state_->programs.sources(), &key);
    return absl::OkStatus();
  }
  kveil_source source = {};
  std::memcpy(source.address, ToEndpoint(*address).address, sizeof(source.address));
  if (::bpf_map_update_elem(state_->programs.sources(), &key, &source, BPF_ANY) == 0) return absl::OkStatus();
  return MapError("cannot note a namespace's address");
}

int Redirect::eventFd() const { return ring_buffer__epoll_fd(state_->events.get()); }

size_t Redirect::ReadEvents(const std::function<void(const RefusedConnect&)>& handler, size_t most) {
  state_->eventHandler = &handler;
  state_->eventsHandled = 0;
  state_->mostEvents = most;
  ring_buffer__consume(state_->events.get());
  state_->eventHandler = nullptr;
  return state_->eventsHandled;
}

ListenerPlace Redirect::listenerPlace() const {
  return {.cgroupFd = state_->agentCgroup->fd(),
          .ownSocketsMap = state_->programs.ownSockets(),
          .preferredPort = state_->config.listenPort};
}

std::chrono::milliseconds Redirect::holdTime() const { return state_->options.holdTime; }

HeldConnects Redirect::heldConnects() const {
  const kveil_hold_counts counts = state_->programs.HoldCounts();
  return {.held = counts.held, .released = counts.released, .ended = counts.ended};
}
int Redirect::agentCgroupFd() const { return state_->agentCgroup->fd(); }

absl::Status Redirect::RepairAgentCgroup() {
  absl::Status repaired = state_->agentCgroup->Repair();
  state_->programs.SetAgentCgroup(state_->agentCgroup->id());
  return repaired;
}

const config::InterceptConfig& Redirect::config() const { return state_->config; }

}  // namespace kveil::intercept
