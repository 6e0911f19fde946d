// The agent looks after itself: what it checks each second, and what it tells of its health.
#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time_text.h"
#include "daemon/agent.h"

namespace kveil::daemon {
namespace {

constexpr std::chrono::seconds kHoldProbeLimit{5};
constexpr int kWatchesBetweenHoldProbes = 30;
constexpr uint64_t kMostOnPage = 50;  // connections

absl::Status ProblemOf(const bundle::Puller::Status& pull) {
  if (pull.problem.ok()) return absl::OkStatus();
  const std::string since =
      pull.confirmed.has_value() ? StrCat("since ", UtcText(*pull.confirmed)) : "since the agent started";
  return absl::Status(pull.problem.code(), StrCat(ToStd(pull.problem.message()), ". It has not worked ", since,
                                                  ", and the policies from before stay in force"));
}

}  // namespace

void Agent::Watch() {
  ListenForMetrics();
  tls_->LookAgain();
  clientTls_->LookAgain();
  if (!notHeld_.ok() && ++watches_ % kWatchesBetweenHoldProbes == 0) ProbeHold();
  RefreshHealth();
  metrics_.NamespacesServed(ServedNamespaces());
  const intercept::HeldConnects held = redirect_->heldConnects();
  metrics_.HeldConnects(held.held, held.released, held.ended);
  metrics_.PolicyGeneration(policies_->generation());
  const std::shared_ptr<const policy::Policy> policies = policies_->Current();
  metrics_.PolicyInForce(policies->digest(), policies->version());
  metrics_.Ready(IsReady());
  WatchRootKey();
  WatchKeks();
  WatchEpochs();
  // Numbers that a restored registry gives again must not make receipts of before untrue.
  if (erasures_->isWhole()) NoteOf("irrecoverable", irrecoverable_.Watch(*keys_));
  WatchLog();
  WatchSender();
  WatchPuller();
  if (fdstore_ != nullptr) NoteOf("fdstore", fdstore_->Watch());
  manager_.Tell({.isReady = IsReady(), .isAlive = checks_->alive(), .status = StatusLine()});
}

absl::StatusOr<Reloader::Outcome> Agent::Reload() {
  manager_.Reloading();
  absl::StatusOr<Reloader::Outcome> outcome = reloader_.Reload();
  manager_.Reloaded();
  std::string note;
  if (!outcome.ok()) {
    note = StrCat("the file was changed and cannot be used: ", ToStd(outcome.status().message()));
  } else if (!outcome->needRestart.empty()) {
    note = StrCat("the file says something else than what is in force, until the agent is restarted: ",
                  absl::StrJoin(outcome->needRestart, " "));
  }
  health_.Note("configuration", note);
  return outcome;
}

// What `kveil status` says in more lines.
std::string Agent::StatusLine() const {
  const std::vector<observe::Health::Problem> problems = health_.problems();
  const char* const ready = IsReady() ? "ready" : "NOT ready";
  if (problems.empty()) return ready;
  const auto& [name, message] = problems.front();
  const std::string more = problems.size() == 1 ? "" : StrCat(" (and ", problems.size() - 1, " more)");
  return StrCat(ready, ", ", name, more, ": ", message);
}

// Lines that were lost a moment ago: whoever looks for something in the log may not find it.
void Agent::WatchLog() {
  const log::Losses losses = log::Lost();
  metrics_.LogLinesLost(losses.unread, losses.limited);
  const uint64_t unread = losses.unread - std::exchange(toldLosses_, losses).unread;
  health_.Set("log", unread == 0 ? absl::OkStatus()
                                 : absl::UnavailableError("nobody reads the log (stderr): its lines are lost"));
}

void Agent::WatchSender() {
  if (sender_ == nullptr) return;
  const audit_topic::TrailSender::Status status = sender_->status();
  metrics_.AuditTopic(status.sent, status.behind, status.missed);
}

void Agent::WatchPuller() {
  if (puller_ == nullptr) return;
  const bundle::Puller::Status status = puller_->status();
  std::optional<double> confirmed;
  if (status.confirmed.has_value()) confirmed = absl::ToDoubleSeconds(*status.confirmed - absl::UnixEpoch());
  metrics_.PolicyPull(confirmed, status.failures);
}

void Agent::WatchRootKey() {
  using Operation = keys::RootKey::Operation;
  const keys::RootKey::Stats stats = keys_->rootKeyStats();
  if (stats.provider.empty()) return;
  for (const auto& [operation, name] :
       {std::pair{Operation::kGenerateDataKey, "generate_data_key"}, std::pair{Operation::kUnwrap, "unwrap"},
        std::pair{Operation::kRewrap, "rewrap"}, std::pair{Operation::kCheck, "check"}}) {
    const keys::RootKey::Calls& calls = stats.calls[static_cast<size_t>(operation)];
    metrics_.RootKeyCalls(std::string(stats.provider), name, calls.calls, calls.errors,
                          std::chrono::duration<double>(calls.time).count());
  }
}

void Agent::WatchKeks() {
  for (const keys::KeyService::KekStats& stats : keys_->kekStats()) {
    metrics_.KekCalls(stats.provider, stats.calls.calls, stats.calls.errors,
                      std::chrono::duration<double>(stats.calls.time).count());
    metrics_.KekKeysAre(stats.provider, "usable", stats.keys);
    constexpr const char* kTroubles[] = {"unreachable", "denied", "unusable", "damaged"};
    static_assert(std::size(kTroubles) == std::tuple_size_v<decltype(stats.troubles)>);
    for (size_t i = 0; i < stats.troubles.size(); ++i) {
      metrics_.KekKeysAre(stats.provider, kTroubles[i], stats.troubles[i]);
    }
  }
}

void Agent::WatchEpochs() {
  const keys::KeyService::EpochNow now = keys_->epochNow();
  if (now.number == 0) return;
  metrics_.EpochIs(now.number, std::chrono::duration<double>(now.age).count(), now.isTurning);
  health_.Note("epochs", now.note);
}

bool Agent::IsReady() const {
  // Once they were listed, pods stay known while the API server does not answer.
  const bool knowsPods = pods_ == nullptr || pods_->isFilled();
  return probed_ && knowsPods && namespaces_->Health().ok() && redirect_->Health().ok() && checks_->able();
}

absl::Status Agent::PodsHealth() const {
  if (pods_ != nullptr) return pods_->Health();
  const std::shared_ptr<const policy::Policy> policy = policies_->Current();
  const bool namesPods = std::any_of(policy->topics().begin(), policy->topics().end(), policy::NamesPods);
  if (!namesPods) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "policies have rules about pods, and the configuration has no section `kubernetes`: no pod fits these rules");
}

size_t Agent::ServedNamespaces() const {
  using State = intercept::Namespaces::NamespaceStatus::State;
  const auto all = namespaces_->Status();
  return static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [](const auto& one) { return one.state == State::kServed; }));
}

void Agent::NoteOf(const char* name, const absl::Status& status) {
  health_.Note(name, std::string(ToStd(status.message())));
}

void Agent::RefreshHealth() {
  health_.Set("keys", keys_->health());
  health_.Set("policies", policies_->lastError());
  if (puller_ != nullptr) health_.Set("policies.pull", ProblemOf(puller_->status()));
  health_.Set("tls", tls_->Health());
  health_.Set("clientTls", clientTls_->Health());
  health_.Set("pods", PodsHealth());
  if (taint_ != nullptr) health_.Set("startupTaint", taint_->Health());
  health_.Set("redirect", redirect_->Health());
  health_.Set("namespaces", namespaces_->Health());
  if (audit_ != nullptr) health_.Set("audit", audit_->Health());
  // What one workload can bring about is no problem of the node.
  if (audit_ != nullptr) health_.Note("audit", audit_->Note());
  if (sender_ != nullptr) {
    const audit_topic::TrailSender::Status status = sender_->status();
    health_.Set("audit.topic", status.problem);
    health_.Note("audit.topic", status.note);
  }
  NoteOf("namespaces", namespaces_->WorkloadsNotServed());
  NoteOf("shares", namespaces_->SharesHealth());
  NoteOf("unserved", namespaces_->Unserved());
  NoteOf("learned", redirect_->LearnedHealth());
  NoteOf("producers", shared_->ProducersHealth());
  NoteOf("fetchSessions", shared_->FetchSessionsHealth());
  NoteOf("patterns", shared_->SearchesHealth());
  NoteOf("brokers", brokers_->Health());
  NoteOf("names", names_->Health());
  NoteOf("topics", shared_->topicNames.Health());
  NoteOf("admin", admin_->Health());
  health_.Note("keys", keys_->kekNote());
  NoteConsentTopics();
  health_.Set("existing", namespaces_->NotReset());
  NoteClientTls();
  checks_->Run();
  const uint64_t heldBack = metrics_.totals().connectionsHeldBack;
  health_.Note("answersOwed", heldBack == 0 ? ""
                                            : StrCat(heldBack,
                                                     " connections are not read: as many answers are owed to "
                                                     "them as the agent remembers"));
}

void Agent::NoteConsentTopics() {
  // What is not known to count does not.
  std::map<std::string, std::optional<bool>> isStale;
  for (const auto& follower : followers_) isStale[follower->keyspace()] = true;
  for (const keys::SourceState& state : keys_->sourceStates()) {
    const bool concerns = state.isWanted || isStale.contains(state.keyspace);
    isStale[state.keyspace] = concerns ? std::optional(state.isStale) : std::nullopt;
  }
  for (const auto& [keyspace, stale] : isStale) metrics_.ConsentsAreStale(keyspace, stale);
  for (const auto& follower : followers_) {
    const consents::TopicFollower::Status status = follower->status();
    health_.Set(StrCat("consents.", follower->keyspace()), status.problem);
    health_.Note(StrCat("consents.", follower->keyspace()), status.note);
    observe::Metrics::ConsentTopic topic{status.isFollowed, status.behind, std::nullopt, status.unreadable};
    if (status.readAt.has_value()) topic.readAt = absl::ToDoubleSeconds(*status.readAt - absl::UnixEpoch());
    metrics_.ConsentTopicIs(follower->keyspace(), topic);
  }
}

void Agent::NoteClientTls() {
  const std::string unprotected = config::WarningOfPassedTls(config_.clusters);
  const observe::Metrics::Totals totals = metrics_.totals();
  std::string note;
  if (!unprotected.empty())
    note = StrCat(unprotected, "; ", totals.connectionsPassed, " of these connections are open");
  if (totals.handshakesWaiting > 0) {
    StrAppend(&note, note.empty() ? "" : "; ", totals.handshakesWaiting,
              " connections wait for their TLS handshake, as their workload has as many under way as it may");
  }
  health_.Note("clientTls", note);
}

// A probe that failed says little about later ones: it may have met a machine that was starting up.
void Agent::ProbeHold() {
  const absl::Status held = redirect_->ProbeHold(kHoldProbeLimit);
  if (held.ok() != notHeld_.ok()) {
    log::Warning("connects.notHeld",
                 {{"problem", held},
                  {"consequence", held.ok() ? "first connects in new network namespaces wait again"
                                            : "first connects in new network namespaces are refused"}});
  }
  notHeld_ = held;
  NoteOf("notHeld", held);
}

observe::MetricsEndpoint::Page Agent::MakePage() {
  observe::MetricsEndpoint::Page page{.isOn = config_.admin.page != config::AdminPage::kOff};
  if (config_.admin.page != config::AdminPage::kConnections) return page;
  if (pageConnections_ == nullptr) {
    pageConnections_ = std::make_unique<PageConnections>([this] {
      const auto listed = Connections(*server_, {.most = kMostOnPage, .recently = true});
      return listed.ok() ? PageTextOf(*listed) : "{}";
    });
  }
  page.connections = [this](PageConnections::Reply reply) { pageConnections_->Answer(std::move(reply)); };
  return page;
}

// The metrics' port may be somebody else's: that is no reason to leave the applications without an agent.
void Agent::ListenForMetrics() {
  if (!config_.admin.metrics.has_value() || metricsEndpoint_ != nullptr) return;
  absl::StatusOr<std::unique_ptr<observe::MetricsEndpoint>> endpoint = observe::MetricsEndpoint::Listen(
      *config_.admin.metrics, metrics_,
      {.isAlive = [this] { return checks_->alive(); }, .isReady = [this] { return IsReady(); }}, MakePage());
  health_.Set("metrics", endpoint.status());
  if (endpoint.ok()) metricsEndpoint_ = *std::move(endpoint);
}

}  // namespace kveil::daemon
