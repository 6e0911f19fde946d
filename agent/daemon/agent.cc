// Makes the parts of the agent, wires them together, and ends them in order.
#include "daemon/agent.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "admin/reload_command.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/commands/commands.h"
#include "daemon/key_store.h"
#include "daemon/part_options.h"
#include "daemon/preflight.h"
#include "intercept/kernel/target_coverage.h"

namespace kveil::daemon {
namespace {

constexpr std::chrono::seconds kProbeLimit{5};
// How long the agent's end waits until the brokers have the last lines of the audit trail.
constexpr std::chrono::seconds kLastLinesLimit{3};

// Whether a signal that ends the agent waits for somebody to take it, as nobody does before the agent is ready.
bool IsEndPending() {
  sigset_t pending;
  ::sigemptyset(&pending);
  ::sigpending(&pending);
  return ::sigismember(&pending, SIGTERM) == 1 || ::sigismember(&pending, SIGINT) == 1;
}

}  // namespace

Agent::Agent(config::AgentConfig config, ServiceManager& manager, Reloader& reloader, fdstore::Client* fdstore)
    : config_(std::move(config)),
      manager_(manager),
      reloader_(reloader),
      fdstore_(fdstore),
      metrics_(KVEIL_VERSION),
      receipts_(config::ReceiptsFolder(config_.keys)),
      irrecoverable_(receipts_.folder(), StrCat("root key file ", config_.keys.rootKeyFile)) {}

Agent::~Agent() {
  if (keys_ != nullptr) keys_->EndRotation();
  if (admin_ != nullptr) admin_->Stop();  // its commands ask all the others, and it, too
  admin_.reset();
  metricsEndpoint_.reset();  // it asks whether the agent is ready
  pageConnections_.reset();  // it asks the server
  taint_.reset();            // and so does this
  for (const auto& follower : followers_) follower->BeginEnd();
  followers_.clear();
  if (names_ != nullptr) names_->Stop();  // it makes sockets by the namespaces
  // Callbacks of the namespaces reach into the server and the other way round: both are silenced before either goes.
  if (namespaces_ != nullptr) namespaces_->Stop();
  server_.reset();
  EndAudit();
}

// Nothing is counted any more. The last lines go to the topic, too.
void Agent::EndAudit() {
  if (audit_ != nullptr) audit_->Stop();
  if (sender_ != nullptr) sender_->Stop(kLastLinesLimit);
}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(config::AgentConfig config, ServiceManager& manager,
                                                    Reloader& reloader, fdstore::Client* fdstore) {
  std::unique_ptr<Agent> agent(new Agent(std::move(config), manager, reloader, fdstore));
  // Connects to the targets are refused from Attach on, so that no record passes while a later step fails.
  for (const auto step : {&Agent::Preflight, &Agent::Claim, &Agent::PullFirst, &Agent::Attach, &Agent::OpenStores,
                          &Agent::StartWorkers, &Agent::Serve, &Agent::StartEndpoints}) {
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
  HandleCommands(*admin_, commandTarget_);
  using admin::ReloadCommand;
  admin_->Handle<ReloadCommand>(
      [this](const ReloadCommand::Request&, const admin::Caller&) -> absl::StatusOr<ReloadCommand::Response> {
        absl::StatusOr<Reloader::Outcome> outcome = Reload();
        if (!outcome.ok()) return outcome.status();
        return ReloadCommand::Response{std::move(outcome->applied), std::move(outcome->needRestart)};
      });
  admin_->Start();
  return absl::OkStatus();
}

// Nothing on this node was ever protected, so nobody is cut off while its policies are pulled.
absl::Status Agent::PullFirst() {
  return isFirstEver_ && config_.policies.pull.has_value() ? OpenPolicies() : absl::OkStatus();
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

std::unique_ptr<bundle::Puller> Agent::MakePuller() {
  bundle::Puller::Options options;
  options.source = *config_.policies.pull;
  options.folder = config_.policies.folder;
  options.trustedKeys = config_.policies.trustedKeys;
  const bundle::AcceptedVersion accepted(config::AcceptedPoliciesFile(config_.keys), config_.policies.minimumVersion);
  const auto current = [this] { return policies_ == nullptr ? nullptr : policies_->Current(); };
  options.accepts = [accepted, current](const bundle::Manifest& manifest) {
    return policy::MayFollow(manifest, accepted, current().get());
  };
  options.check = [this, accepted, current](const std::string& folder) {
    const absl::StatusOr<policy::SignedPolicies> loaded =
        policy::LoadSigned(folder, config_.policies.trustedKeys, accepted, current().get());
    return loaded.ok() ? FitsPolicies(*loaded->policy) : loaded.status();
  };
  options.replaced = [this] { return policies_ == nullptr ? absl::OkStatus() : policies_->Reload(); };
  options.isInForce = [this] { return policies_ != nullptr && policies_->lastError().ok(); };
  return std::make_unique<bundle::Puller>(std::move(options));
}

absl::Status Agent::FitsPolicies(const policy::Policy& policies) const {
  return policy::CheckKekProviders(policies, config_.keys.kekProviders);
}

// The policies that were pulled last will do, whether or not the server is there. Without any, it has to be.
absl::Status Agent::OpenPolicies() {
  if (config_.policies.pull.has_value()) puller_ = MakePuller();
  policy::PolicyStore::Options options;
  options.trust = policy::TrustOf(config_);
  options.fits = [this](const policy::Policy& policies) { return FitsPolicies(policies); };
  options.reloaded = [this](const absl::Status& status) { metrics_.PolicyReloaded(status.ok()); };
  absl::StatusOr<std::unique_ptr<policy::PolicyStore>> policies =
      policy::PolicyStore::Open(config_.policies.folder, options);
  if (!policies.ok() && puller_ != nullptr) {
    log::Warning("policy.noneYet", {{"reason", policies.status()}, {"consequence", "they are pulled first"}});
    absl::Status pulled = puller_->Pull([this] {
      manager_.Starting("the policies are pulled");
      return !IsEndPending();
    });
    if (!pulled.ok()) return pulled;
    policies = policy::PolicyStore::Open(config_.policies.folder, options);
  }
  if (!policies.ok()) return policies.status();
  policies_ = *std::move(policies);
  return absl::OkStatus();
}

absl::Status Agent::OpenStores() {
  if (policies_ == nullptr) {
    if (absl::Status opened = OpenPolicies(); !opened.ok()) return opened;
  }
  keys::KeyServiceOptions keyOptions = KeyOptionsOf(config_.keys);
  keyOptions.waitsForPin = !isFirstEver_;  // an agent that cannot run yet cuts nobody off
  keyOptions.mayWait = [this](const absl::Status& reason) {
    health_.Set("keys", reason);
    manager_.Starting(ToStd(reason.message()));
    return !IsEndPending();
  };
  absl::StatusOr<std::unique_ptr<keys::KeyService>> opened = keys::KeyService::Open(std::move(keyOptions));
  if (!opened.ok()) return opened.status();
  keys_ = *std::move(opened);
  // Erasing works without them, and says that there is no receipt.
  health_.Set("receipts", receipts_.Prepare());
  erasures_ = std::make_unique<ErasureCheck>(*keys_, receipts_, health_);
  erasures_->Start();

  absl::StatusOr<std::unique_ptr<tls::ClusterTls>> tls = tls::ClusterTls::Load(config_.clusters);
  if (!tls.ok()) return tls.status();
  tls_ = *std::move(tls);
  absl::StatusOr<std::unique_ptr<tls::ClientTls>> clientTls = tls::ClientTls::Load(config_.clusters);
  if (!clientTls.ok()) return clientTls.status();
  clientTls_ = *std::move(clientTls);
  return absl::OkStatus();
}

absl::Status Agent::StartWorkers() {
  absl::StatusOr<std::unique_ptr<intercept::Workloads>> workloads =
      intercept::Workloads::Open(config_.intercept.cgroup);
  if (!workloads.ok()) return workloads.status();
  workloads_ = *std::move(workloads);

  if (config_.kubernetes.has_value()) {
    pods_ = std::make_unique<kubernetes::PodDirectory>(kubernetes::PodDirectory::Options{
        .apiServer = ApiServerOf(*config_.kubernetes), .node = config_.kubernetes->node});
  }

  names_ = std::make_unique<NameLookup>(serving_);
  brokers_ = std::make_unique<guard::BrokerDirectory>(BrokerOptions());

  shared_ = std::make_unique<guard::SharedState>(*policies_, metrics_, *brokers_, GuardLimitsOf(config_));

  const proxy::Server::Options options = ServerOptionsOf(config_);
  for (unsigned worker = 0; worker < options.workers; ++worker) {
    scratch_.push_back(std::make_unique<guard::WorkerScratch>(*keys_, config_.limits.keyTimeout));
  }
  if (config_.audit.isOn) StartAudit(options.workers);

  setup_ = std::make_unique<ConnectionSetup>(ConnectionSetup::Sources{config_.intercept.targets, *redirect_,
                                                                      *workloads_, serving_, pods_.get(), *tls_,
                                                                      *clientTls_, *brokers_, *shared_, scratch_});
  proxy::Server::Hooks hooks;
  hooks.tick = [this](size_t worker) { scratch_[worker]->keyCache.Refresh(); };
  hooks.released = [this](uint64_t netnsCookie) { Released(netnsCookie); };
  absl::StatusOr<std::unique_ptr<proxy::Server>> server =
      proxy::Server::Start(options, *setup_, std::move(hooks), metrics_);
  if (!server.ok()) return server.status();
  server_ = *std::move(server);
  return absl::OkStatus();
}

// Records pass whether or not the trail can be written.
void Agent::StartAudit(unsigned workers) {
  std::vector<audit::Tally*> tallies;
  for (unsigned worker = 0; worker < workers; ++worker) {
    tallies_.push_back(std::make_unique<audit::Tally>());
    tallies.push_back(tallies_.back().get());
    scratch_[worker]->audit = tallies.back();
  }
  audit::Recorder::Options options;
  options.folder = config::AuditFolder(config_);
  options.limits.bytes = config_.audit.maxSize;
  options.limits.fileBytes = std::min(options.limits.fileBytes, config_.audit.maxSize / 8);
  options.limits.keep = absl::FromChrono(config_.audit.keep);
  options.agent = keys_->agentName();
  options.version = KVEIL_VERSION;
  options.pseudonymsOf = PseudonymsFrom(*keys_);
  options.registryOf = [this] { return RegistryMark(*keys_); };
  audit_ = std::make_unique<audit::Recorder>(std::move(options), std::move(tallies));
  audit_->Start();
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
    HandOver([this, netnsCookie, listeners = std::move(listeners)]() mutable {
      server_->Serve(netnsCookie, std::move(listeners));
    });
  };
  callbacks.release = [this](uint64_t netnsCookie) {
    HandOver([this, netnsCookie] { server_->Release(netnsCookie); });
  };
  intercept::Namespaces::Options options;
  // Whoever wants connects to pass an agent that is down does not want them to wait for it.
  DescriptorStore* const manager = &manager_;
  DescriptorStore* const fdstore = fdstore_;
  if (config_.intercept.whenDown == config::WhenDown::kRefuse) options.store = fdstore != nullptr ? fdstore : manager;
  for (DescriptorStore* const unused : {manager, fdstore}) {
    if (unused == nullptr || unused == options.store) continue;
    for (const KeptDescriptor& kept : unused->TakeKept()) unused->Forget(kept.name);
  }
  absl::StatusOr<std::unique_ptr<intercept::Namespaces>> namespaces =
      intercept::Namespaces::Start(*redirect_, std::move(callbacks), options);
  if (!namespaces.ok()) return namespaces.status();
  namespaces_ = *std::move(namespaces);
  {
    const MutexLock lock(handOverMutex_);
    serving_.store(namespaces_.get(), std::memory_order_release);
    for (auto& what : std::exchange(handedOverEarly_, {})) what();
  }
  Released(std::nullopt);

  checks_ = std::make_unique<SelfChecks>(health_, *redirect_, *access_, *server_, *keys_, *namespaces_);
  if (absl::Status probed = redirect_->Probe(kProbeLimit); !probed.ok()) return probed;
  ProbeHold();
  probed_ = true;
  return absl::OkStatus();
}

// What has waited in a kept listener is accepted as soon as the server has that, and needs namespaces_ for its
// upstream.
void Agent::HandOver(absl::AnyInvocable<void()> what) {
  const MutexLock lock(handOverMutex_);
  if (serving_.load(std::memory_order_acquire) == nullptr) return handedOverEarly_.push_back(std::move(what));
  what();
}

// A worker tells of namespaces that are let go, also before namespaces_ is there to hear it.
void Agent::Released(std::optional<uint64_t> netnsCookie) {
  const MutexLock lock(releasedMutex_);
  if (netnsCookie.has_value()) releasedEarly_.push_back(*netnsCookie);
  intercept::Namespaces* const namespaces = serving_.load(std::memory_order_acquire);
  if (namespaces == nullptr) return;
  for (const uint64_t cookie : std::exchange(releasedEarly_, {})) namespaces->Released(cookie);
}

void Agent::FollowConsents() {
  for (const config::ConsentTopicConfig& topic : config_.consentTopics) {
    followers_.push_back(std::make_unique<consents::TopicFollower>(FollowerOptionsOf(topic, *redirect_), *keys_));
  }
}

void Agent::SendAudit() {
  if (!config_.audit.isOn || !config_.audit.topic.has_value()) return;
  audit_topic::TrailSenderOptions options;
  options.folder = config::AuditFolder(config_);
  options.agent = keys_->agentName();
  options.client = ClientOf(config_.audit.topic->client, config_.audit.topic->topic, "audit.client", *redirect_);
  sender_ = std::make_unique<audit_topic::TrailSender>(std::move(options));
}

absl::Status Agent::StartEndpoints() {
  FollowConsents();
  SendAudit();
  if (puller_ != nullptr) puller_->Start();
  if (config_.kubernetes.has_value() && !config_.kubernetes->startupTaint.empty()) {
    kubernetes::StartupTaint::Options options;
    options.apiServer = ApiServerOf(*config_.kubernetes);
    options.node = config_.kubernetes->node;
    options.key = config_.kubernetes->startupTaint;
    options.isReady = [this] { return IsReady(); };
    taint_ = std::make_unique<kubernetes::StartupTaint>(std::move(options));
  }
  commandTarget_.Set({.metrics = metrics_,
                      .health = health_,
                      .policies = *policies_,
                      .puller = puller_.get(),
                      .keys = *keys_,
                      .receipts = receipts_,
                      .audit = audit_.get(),
                      .redirect = *redirect_,
                      .server = *server_,
                      .shared = *shared_,
                      .startedAt = startedAt_,
                      .refreshHealth = [this] { RefreshHealth(); },
                      .isReady = [this] { return IsReady(); },
                      .servedNamespaces = [this] { return ServedNamespaces(); }});
  Watch();  // whoever hears from the service manager that the agent is ready gets the same answer at the admin socket
  return absl::OkStatus();
}

void Agent::Drain() {
  probed_ = false;
  for (const auto& follower : followers_) follower->BeginEnd();
  namespaces_->Stop();
  names_->Stop();  // what waits for a name server holds up no connection's end
  // Where no store has them, connects are to be refused and not to wait for nobody.
  if (fdstore_ != nullptr) fdstore_->End();
  server_->Drain();
}

}  // namespace kveil::daemon
