#include "daemon/agent.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/time/time.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/preflight.h"
#include "intercept/kernel/target_coverage.h"
#include "nlohmann/json.hpp"

namespace kveil::daemon {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kProbeLimit{5};
constexpr int kWatchesBetweenHoldProbes = 30;

unsigned WorkerCount(const config::AgentConfig& config) {
  return config.workers != 0 ? config.workers : std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

Agent::Agent(config::AgentConfig config) : config_(std::move(config)), metrics_(KVEIL_VERSION) {}

Agent::~Agent() {
  admin_.reset();                         // its thread asks all the others
  if (names_ != nullptr) names_->Stop();  // it makes sockets by the namespaces
  // Callbacks of the namespaces reach into the server and the other way round: both are silenced before either goes.
  if (namespaces_ != nullptr) namespaces_->Stop();
  server_.reset();
}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(config::AgentConfig config) {
  std::unique_ptr<Agent> agent(new Agent(std::move(config)));
  // Connects to the targets are refused from Attach on, so that no record passes while a later step fails.
  for (const auto step : {&Agent::Preflight, &Agent::Claim, &Agent::Attach, &Agent::OpenStores, &Agent::StartWorkers,
                          &Agent::Serve, &Agent::StartEndpoints}) {
    const absl::Status status = (agent.get()->*step)();
    if (status.ok()) continue;
    // Nothing on this node was ever protected, so nothing is given up, and an agent that cannot run cuts nobody off.
    if (agent->redirect_ == nullptr || (agent->isFirstEver_ && agent->redirect_->TakeAwayIfNew())) return status;
    return absl::Status(status.code(), StrCat(ToStd(status.message()),
                                              " (connects to the targets are refused until an "
                                              "agent runs, or after `kveil detach` let through)"));
  }
  return agent;
}

absl::Status Agent::Preflight() {
  isFirstEver_ = WasNeverUsed(config_.keys);
  absl::Status able = CheckCapabilities(config_);
  if (able.ok()) able = CheckMachine(config_);
  return able;
}

// The admin socket is also what tells a second agent that one is alive, before it touches kernel or keys.
absl::Status Agent::Claim() {
  admin::AdminServer::Options options;
  options.socketPath = config_.admin.socket;
  options.group = config_.admin.group;
  options.eraseGroup = config_.admin.eraseGroup;
  absl::StatusOr<std::unique_ptr<admin::AdminServer>> admin = admin::AdminServer::Listen(std::move(options));
  if (!admin.ok()) return admin.status();
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

absl::Status Agent::Attach() {
  absl::StatusOr<std::unique_ptr<intercept::Redirect>> redirect = intercept::Redirect::Start(config_.intercept);
  if (!redirect.ok()) return redirect.status();
  redirect_ = *std::move(redirect);
  log::Info("redirect.attached", {{"kernel", redirect_->Description()}});
  // Before any key is in memory, of which its process has a copy.
  absl::StatusOr<std::unique_ptr<intercept::AccessCheck>> access =
      intercept::AccessCheck::Start(redirect_->agentCgroupFd(), config_.intercept.cgroup);
  if (!access.ok()) return access.status();
  access_ = *std::move(access);
  return absl::OkStatus();
}

absl::Status Agent::OpenStores() {
  policy::PolicyStore::Options policyOptions;
  policyOptions.reloaded = [this](const absl::Status& status) { metrics_.PolicyReloaded(status.ok()); };
  absl::StatusOr<std::unique_ptr<policy::PolicyStore>> policies =
      policy::PolicyStore::Open(config_.policies, std::move(policyOptions));
  if (!policies.ok()) return policies.status();
  policies_ = *std::move(policies);

  keys::KeyServiceOptions keyOptions;
  keyOptions.root.file = config_.keys.rootKeyFile;
  keyOptions.registry.sqlite = config_.keys.registryPath;
  keyOptions.cacheTtl = config_.keys.cacheTtl;
  keyOptions.newUsersPerSecond = config_.keys.newUsersPerSecond;
  absl::StatusOr<std::unique_ptr<keys::KeyService>> opened = keys::KeyService::Open(std::move(keyOptions));
  if (!opened.ok()) return opened.status();
  keys_ = *std::move(opened);

  absl::StatusOr<std::unique_ptr<tls::ClusterTls>> tls = tls::ClusterTls::Load(config_.clusters);
  if (!tls.ok()) return tls.status();
  tls_ = *std::move(tls);
  return absl::OkStatus();
}

absl::Status Agent::StartWorkers() {
  absl::StatusOr<std::unique_ptr<intercept::Workloads>> workloads =
      intercept::Workloads::Open(config_.intercept.cgroup);
  if (!workloads.ok()) return workloads.status();
  workloads_ = *std::move(workloads);

  names_ = std::make_unique<NameLookup>(serving_);
  brokers_ = std::make_unique<guard::BrokerDirectory>(BrokerOptions());

  guard::GuardLimits guardLimits;
  guardLimits.batchSize = config_.limits.batchSize;
  guardLimits.batchUsers = config_.limits.batchUsers;
  // Besides records, a response has some bytes for each partition.
  guardLimits.fetchBytes = config_.limits.responseSize - config_.limits.responseSize / 16;
  guardLimits.keyTimeout = config_.limits.keyTimeout;
  shared_ = std::make_unique<guard::SharedState>(*policies_, metrics_, *brokers_, guardLimits);

  proxy::Server::Options options;
  options.workers = WorkerCount(config_);
  options.receiveBuffers = config_.limits.receiveBuffers;
  const size_t share = config_.limits.totalMemory / options.workers;
  // A worker has one batch in work at a time: as it came, decompressed, and what it becomes.
  options.frameMemory = share - std::min(2 * config_.limits.batchSize, share / 4);
  options.connections = config_.limits.connections;
  options.drainTimeout = config_.limits.drainTimeout;
  options.limits.requestFrame = config_.limits.requestSize;
  options.limits.responseFrame = config_.limits.responseSize;
  options.limits.connectTimeout = config_.limits.connectTimeout;
  options.limits.stallTimeout = config_.limits.stallTimeout;
  options.limits.hoardTimeout = config_.limits.stallTimeout / 10;
  options.limits.idleTimeout = config_.limits.idleTimeout;
  for (unsigned worker = 0; worker < options.workers; ++worker) {
    scratch_.push_back(std::make_unique<guard::WorkerScratch>(*keys_, config_.limits.keyTimeout));
  }

  setup_ = std::make_unique<ConnectionSetup>(ConnectionSetup::Sources{
      config_.intercept.targets, *redirect_, *workloads_, serving_, *tls_, *brokers_, *shared_, scratch_});
  proxy::Server::Hooks hooks;
  hooks.tick = [this](size_t worker) { scratch_[worker]->keyCache.Refresh(); };
  hooks.released = [this](uint64_t netnsCookie) { Released(netnsCookie); };
  absl::StatusOr<std::unique_ptr<proxy::Server>> server =
      proxy::Server::Start(options, *setup_, std::move(hooks), metrics_);
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

guard::BrokerDirectory::Options Agent::BrokerOptions() {
  guard::BrokerDirectory::Options options;
  options.learn = [this](const SocketAddress& broker, uint16_t targetIndex, std::chrono::seconds lifetime) {
    return redirect_->Learn(broker, targetIndex, lifetime);
  };
  options.clusterOf = [this](uint16_t targetIndex) { return config_.intercept.targets.at(targetIndex).cluster; };
  options.hasTls = [this](uint16_t targetIndex) {
    return tls_->IsUsedBy(config_.intercept.targets.at(targetIndex).cluster);
  };
  options.targetOf = [this](const SocketAddress& broker) { return redirect_->ConfiguredTarget(broker); };
  options.coversAll = [this](uint16_t port, uint16_t targetIndex) { return CoversAll(port, targetIndex); };
  options.lookUp = [this](const proxy::ConnectionInfo& connection, std::vector<std::string> names,
                          absl::AnyInvocable<void(guard::BrokerDirectory::Answers)> done) {
    names_->LookUp(connection, std::move(names), std::move(done));
  };
  options.viewOf = [this](const proxy::ConnectionInfo& connection) { return names_->ViewOf(connection); };
  options.reportOnly = config_.intercept.advertised == config::Advertised::kReport;
  return options;
}

// Whatever address a broker with this port has, it is a target, and none without TLS where the cluster has it.
bool Agent::CoversAll(uint16_t port, uint16_t targetIndex) const {
  const std::vector<config::Target>& targets = config_.intercept.targets;
  if (!intercept::CoversAll(targets, port)) return false;
  const std::string& own = targets.at(targetIndex).cluster;
  return !tls_->IsUsedBy(own) || std::all_of(targets.begin(), targets.end(), [&](const config::Target& target) {
    return target.cluster == own || !target.Has(port) || tls_->IsUsedBy(target.cluster);
  });
}

absl::Status Agent::Serve() {
  isFirstEver_ = false;  // from now on connections are relayed: whatever fails later, this node is protected
  intercept::Namespaces::Callbacks callbacks;
  callbacks.serve = [this](uint64_t netnsCookie, std::vector<UniqueFd> listeners) {
    server_->Serve(netnsCookie, std::move(listeners));
  };
  callbacks.release = [this](uint64_t netnsCookie) { server_->Release(netnsCookie); };
  absl::StatusOr<std::unique_ptr<intercept::Namespaces>> namespaces =
      intercept::Namespaces::Start(*redirect_, std::move(callbacks));
  if (!namespaces.ok()) return namespaces.status();
  namespaces_ = *std::move(namespaces);
  serving_.store(namespaces_.get(), std::memory_order_release);
  Released(std::nullopt);

  checks_ = std::make_unique<SelfChecks>(health_, *redirect_, *access_, *server_, *keys_, *namespaces_);
  if (absl::Status probed = redirect_->Probe(kProbeLimit); !probed.ok()) return probed;
  ProbeHold();
  probed_ = true;
  return absl::OkStatus();
}

// A probe that failed says little about later ones: it may have met a machine that was starting up.
void Agent::ProbeHold() {
  const absl::Status held = redirect_->ProbeHold(kProbeLimit);
  if (held.ok() != notHeld_.ok()) {
    log::Warning("connects.notHeld",
                 {{"problem", held},
                  {"consequence", held.ok() ? "first connects in new network namespaces wait again"
                                            : "first connects in new network namespaces are refused"}});
  }
  notHeld_ = held;
  NoteOf("notHeld", held);
}

// A worker tells of namespaces that are let go, also before namespaces_ is there to hear it.
void Agent::Released(std::optional<uint64_t> netnsCookie) {
  const std::lock_guard lock(releasedMutex_);
  if (netnsCookie.has_value()) releasedEarly_.push_back(*netnsCookie);
  intercept::Namespaces* const namespaces = serving_.load(std::memory_order_acquire);
  if (namespaces == nullptr) return;
  for (const uint64_t cookie : std::exchange(releasedEarly_, {})) namespaces->Released(cookie);
}

// The metrics' port may be somebody else's: that is no reason to leave the applications without an agent.
void Agent::ListenForMetrics() {
  if (!config_.admin.metrics.has_value() || metricsEndpoint_ != nullptr) return;
  absl::StatusOr<std::unique_ptr<observe::MetricsEndpoint>> endpoint =
      observe::MetricsEndpoint::Listen(*config_.admin.metrics, metrics_);
  health_.Set("metrics", endpoint.status());
  if (endpoint.ok()) metricsEndpoint_ = *std::move(endpoint);
}

absl::Status Agent::StartEndpoints() {
  Watch();
  admin_->Handle("status", [this](std::string_view) { return StatusJson(); });
  admin_->Handle(
      "erase", [this](std::string_view request) { return Erase(request); }, admin::AdminAccess::kErase);
  admin_->Start();
  return absl::OkStatus();
}

void Agent::NoteOf(const char* name, const absl::Status& status) {
  health_.Note(name, std::string(ToStd(status.message())));
}

void Agent::RefreshHealth() {
  health_.Set("keys", keys_->health());
  health_.Set("policies", policies_->lastError());
  health_.Set("tls", tls_->Health());
  health_.Set("redirect", redirect_->Health());
  health_.Set("namespaces", namespaces_->Health());
  // What one workload can bring about is no problem of the node.
  NoteOf("namespaces", namespaces_->WorkloadsNotServed());
  NoteOf("shares", namespaces_->SharesHealth());
  NoteOf("unserved", namespaces_->Unserved());
  NoteOf("learned", redirect_->LearnedHealth());
  NoteOf("producers", shared_->ProducersHealth());
  NoteOf("fetchSessions", shared_->FetchSessionsHealth());
  NoteOf("brokers", brokers_->Health());
  NoteOf("names", names_->Health());
  NoteOf("topics", shared_->topicNames.Health());
  health_.Set("existing", namespaces_->NotReset());
  checks_->Run();
  const uint64_t heldBack = metrics_.totals().connectionsHeldBack;
  health_.Note("answersOwed", heldBack == 0 ? ""
                                            : StrCat(heldBack,
                                                     " connections are not read: as many answers are owed to "
                                                     "them as the agent remembers"));
}

void Agent::Watch() {
  ListenForMetrics();
  tls_->LookAgain();
  if (!notHeld_.ok() && ++watches_ % kWatchesBetweenHoldProbes == 0) ProbeHold();
  RefreshHealth();
  metrics_.NamespacesServed(ServedNamespaces());
  const intercept::HeldConnects held = redirect_->heldConnects();
  metrics_.HeldConnects(held.held, held.released, held.ended);
  metrics_.PolicyGeneration(policies_->generation());
  metrics_.Ready(IsReady());
  WatchLog();
}

// Lines that were lost a moment ago: whoever looks for something in the log may not find it.
void Agent::WatchLog() {
  const log::Losses losses = log::Lost();
  metrics_.LogLinesLost(losses.unread, losses.limited);
  const uint64_t unread = losses.unread - std::exchange(toldLosses_, losses).unread;
  health_.Set("log", unread == 0 ? absl::OkStatus()
                                 : absl::UnavailableError("nobody reads the log (stderr): its lines are lost"));
}

bool Agent::IsReady() const {
  return probed_ && namespaces_->Health().ok() && redirect_->Health().ok() && checks_->able();
}

size_t Agent::ServedNamespaces() const {
  using State = intercept::Namespaces::NamespaceStatus::State;
  const auto all = namespaces_->Status();
  return static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [](const auto& one) { return one.state == State::kServed; }));
}

void Agent::Drain() {
  probed_ = false;
  namespaces_->Stop();
  names_->Stop();  // what waits for a name server holds up no connection's end
  server_->Drain();
}

absl::StatusOr<std::string> Agent::StatusJson() {
  RefreshHealth();  // what is answered is a second old at most, or as old as what it rests on: the last scan, say
  const std::shared_ptr<const policy::Policy> policies = policies_->Current();
  const observe::Metrics::Totals totals = metrics_.totals();
  const intercept::HeldConnects held = redirect_->heldConnects();
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - startedAt_);
  json problems = json::array();
  for (const observe::Health::Problem& problem : health_.problems()) {
    problems.push_back({{"name", problem.name}, {"message", problem.message}});
  }
  json notes = json::array();
  for (const observe::Health::Problem& note : health_.notes()) {
    notes.push_back({{"name", note.name}, {"message", note.message}});
  }
  const guard::UnselectedWrites::Report unselected = shared_->unselectedWrites.report();
  json unselectedTopics = json::array();
  for (const guard::UnselectedWrites::Topic& topic : unselected.topics) {
    unselectedTopics.push_back({{"topic", topic.name}, {"workload", topic.workload}});
  }
  const json status = {
      {"ready", IsReady()},
      {"version", KVEIL_VERSION},
      {"uptimeSeconds", uptime.count()},
      {"namespaces", ServedNamespaces()},
      {"connections", server_->connectionCount()},
      {"heldConnects", {{"held", held.held}, {"released", held.released}, {"ended", held.ended}}},
      {"policies",
       {{"files", policies->fileCount()},
        {"topics", policies->size()},
        {"generation", policies_->generation()},
        {"error", std::string(policies_->lastError().message())}}},
      {"problems", problems},
      {"notes", notes},
      {"unselected", {{"topics", unselectedTopics}, {"more", unselected.hasMore}}},
      {"kernel", StrCat("io_uring, ", redirect_->Description())},
      {"records",
       {{"sealed", totals.sealed},
        {"opened", totals.opened},
        {"dropped", totals.dropped},
        {"refused", totals.refused}}},
  };
  return status.dump();
}

absl::StatusOr<std::string> Agent::Erase(std::string_view requestJson) {
  const json request = json::parse(requestJson, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object() || !request.contains("user") || !request["user"].is_string()) {
    return absl::InvalidArgumentError("erase needs \"user\", a string");
  }
  const std::string user = request["user"].get<std::string>();
  std::optional<std::string> keyspace;
  if (request.contains("keyspace")) {
    if (!request["keyspace"].is_string()) return absl::InvalidArgumentError("\"keyspace\" is not a string");
    keyspace = request["keyspace"].get<std::string>();
  }
  const absl::StatusOr<keys::EraseResult> erased = keys_->Erase(keyspace, user);
  if (!erased.ok()) return erased.status();
  metrics_.UsersErased(1);
  const json answer = {{"erased",
                        {{"keyspaces", erased->keyspaces},
                         {"keys", erased->keyCount},
                         {"time", absl::FormatTime(absl::RFC3339_sec, erased->erasedAt, absl::UTCTimeZone())},
                         {"filesClean", erased->filesClean}}}};
  return answer.dump();
}

}  // namespace kveil::daemon
