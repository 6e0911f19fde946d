// Counters and gauges on prometheus-cpp.
#include "observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "base/mutex.h"

namespace kveil::observe {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Registry;

// In the order of the enums.
constexpr std::array<const char*, kDropReasons> kDropNames = {"erased", "plaintext", "denied"};
constexpr std::array<const char*, kRefuseReasons> kRefuseNames = {
    "denied",         "keys_unavailable", "no_user",        "not_json",
    "ambiguous_user", "bad_user_id",      "already_sealed", "malformed",
    "bad_checksum",   "old_format",       "out_of_order",   "too_large",
    "tampered",       "unknown_key",      "unselected",     "unsupported_version",
    "other"};
constexpr std::array<const char*, kConnectionResults> kResultNames = {
    "served", "no_origin", "broker_unreachable", "not_kafka",  "unsupported",
    "limit",  "stalled",   "tls_failed",         "client_tls", "client_tls_failed"};
constexpr std::array<const char*, 2> kSideNames = {"client", "broker"};

// One counter for each name of a label; all of them are shown from the start, as 0.
template <size_t kCount>
std::array<Counter*, kCount> Labelled(Registry& registry, const std::string& name, const std::string& help,
                                      const std::string& label, const std::array<const char*, kCount>& names) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  std::array<Counter*, kCount> counters;
  for (size_t i = 0; i < kCount; ++i) counters[i] = &family.Add({{label, names[i]}});
  return counters;
}

Counter* Plain(Registry& registry, const std::string& name, const std::string& help) {
  return &prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

Gauge* Level(Registry& registry, const std::string& name, const std::string& help) {
  return &prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

template <size_t kCount>
uint64_t Sum(const std::array<Counter*, kCount>& counters) {
  return std::accumulate(counters.begin(), counters.end(), uint64_t{0}, [](uint64_t sum, const Counter* counter) {
    return sum + static_cast<uint64_t>(counter->Value());
  });
}

void Add(Counter* counter, uint64_t count) {
  if (count != 0) counter->Increment(static_cast<double>(count));
}

// One without a value is not there. With one, it never reads 0 in between.
void SetOfKeyspace(prometheus::Family<Gauge>& family, const std::string& keyspace, std::optional<double> value) {
  const prometheus::Labels labels = {{"keyspace", keyspace}};
  if (value.has_value()) {
    family.Add(labels, *value).Set(*value);  // the one that is there, after the first time
  } else if (family.Has(labels)) {
    family.Remove(&family.Add(labels));
  }
}

}  // namespace

struct Metrics::Families {
  std::shared_ptr<Registry> registry = std::make_shared<Registry>();

  Counter* sealed = Plain(*registry, "kveil_records_sealed_total", "Produced records whose value was sealed.");
  Counter* opened = Plain(*registry, "kveil_records_opened_total", "Fetched records whose value was opened.");
  Counter* passedPlain =
      Plain(*registry, "kveil_records_passed_plain_total",
            "Fetched records of protected topics that carried no envelope and were passed by policy.");
  Counter* afterErasure = Plain(*registry, "kveil_records_after_erasure_total",
                                "Produced records of users erased before, sealed under a key that nobody keeps.");
  Counter* split = Plain(*registry, "kveil_batches_split_total",
                         "Produced batches that sealing made too large for their topic, sent in parts.");
  Counter* notRemembered =
      Plain(*registry, "kveil_producers_not_remembered_total",
            "Refusals to idempotent producers because a workload, or all, had as many remembered as may be.");
  Counter* unselected = Plain(*registry, "kveil_unselected_writes_total",
                              "Produce requests, one a topic, to topics that no policy selects, from workloads that "
                              "had read a protected topic.");
  std::array<Counter*, kDropReasons> dropped = Labelled(
      *registry, "kveil_records_dropped_total", "Fetched records that were left out, by reason.", "reason", kDropNames);
  std::array<Counter*, kDropReasons> masked =
      Labelled(*registry, "kveil_records_masked_total",
               "Fetched records that were passed on without their value, by reason.", "reason", kDropNames);
  std::array<Counter*, kRefuseReasons> refused =
      Labelled(*registry, "kveil_records_refused_total", "Records that were answered with an error, by reason.",
               "reason", kRefuseNames);
  std::array<Counter*, 2> received =
      Labelled(*registry, "kveil_received_bytes_total", "Bytes received, by who sent them.", "from", kSideNames);
  std::array<Counter*, 2> sent =
      Labelled(*registry, "kveil_sent_bytes_total", "Bytes sent, by who gets them.", "to", kSideNames);
  Gauge* open = Level(*registry, "kveil_connections_open", "Intercepted connections now.");
  Gauge* heldBack = Level(*registry, "kveil_connections_held_back",
                          "Intercepted connections that are not read now, because too many answers are owed to them.");
  Gauge* passed = Level(*registry, "kveil_connections_passed",
                        "Connections now on which the application speaks TLS with the broker: not protected.");
  Counter* timesPassed = Plain(*registry, "kveil_connections_passed_total",
                               "Connections on which the application spoke TLS with the broker: not protected.");
  Gauge* handshakesWaiting =
      Level(*registry, "kveil_client_tls_waiting",
            "Connections that wait for their TLS handshake, as their workload has as many under way as it may.");
  std::array<Counter*, 2> handshakes =
      Labelled(*registry, "kveil_client_tls_handshakes_total", "TLS handshakes with applications.", "resumed",
               std::array<const char*, 2>{"no", "yes"});
  std::array<Counter*, 2> identityWaits =
      Labelled<2>(*registry, "kveil_identity_waits_total",
                  "Connections that waited until the agent knew their pod, and those whose pod stayed unknown.",
                  "result", {"known", "unknown"});
  Counter* identityWaitSeconds =
      Plain(*registry, "kveil_identity_wait_seconds_total", "How long these connections waited.");
  Counter* timesHeldBack = Plain(*registry, "kveil_connections_held_back_total",
                                 "How often a connection was not read because too many answers were owed to it.");
  std::array<Counter*, kConnectionResults> closed =
      Labelled(*registry, "kveil_connections_closed_total", "Intercepted connections that ended, by how they went.",
               "result", kResultNames);
  Gauge* namespaces = Level(*registry, "kveil_namespaces", "Network namespaces that are served now.");
  std::array<Counter*, 3> held =
      Labelled(*registry, "kveil_held_connects_total",
               "First connects in new network namespaces that waited for the agent, by what became of them.", "state",
               std::array<const char*, 3>{"held", "released", "ended"});
  std::array<Counter*, 2> lookups =
      Labelled(*registry, "kveil_key_cache_lookups_total", "Look-ups of keys in the workers' caches, by result.",
               "result", std::array<const char*, 2>{"hit", "miss"});
  Counter* erased =
      Plain(*registry, "kveil_users_erased_total", "Commands kveil erase on this node that destroyed keys.");
  Counter* auditSent =
      Plain(*registry, "kveil_audit_topic_lines_total", "Lines of the audit trail that its topic has acknowledged.");
  Gauge* auditBehind =
      Level(*registry, "kveil_audit_topic_lag_lines", "Lines of the audit trail that are not in its topic yet.");
  Counter* auditMissed = Plain(*registry, "kveil_audit_topic_lines_missed_total",
                               "Lines of the audit trail that were removed before they could be sent to its topic.");
  std::array<Counter*, 2> linesLost =
      Labelled(*registry, "kveil_log_lines_lost_total", "Lines of the log that were not written, by reason.", "reason",
               std::array<const char*, 2>{"unread", "limited"});
  // By provider and operation, which the caller knows.
  prometheus::Family<Counter>& rootKeyCalls =
      prometheus::BuildCounter()
          .Name("kveil_root_key_calls_total")
          .Help("Calls of the provider of the root key, attempts counted one by one.")
          .Register(*registry);
  prometheus::Family<Counter>& rootKeyErrors = prometheus::BuildCounter()
                                                   .Name("kveil_root_key_errors_total")
                                                   .Help("Those of these calls that failed.")
                                                   .Register(*registry);
  prometheus::Family<Counter>& rootKeySeconds = prometheus::BuildCounter()
                                                    .Name("kveil_root_key_seconds_total")
                                                    .Help("How long these calls took together.")
                                                    .Register(*registry);
  // By provider, and by provider and state, which the caller knows.
  prometheus::Family<Counter>& kekCalls =
      prometheus::BuildCounter().Name("kveil_kek_calls_total").Help("Calls of a provider of KEKs.").Register(*registry);
  prometheus::Family<Counter>& kekErrors = prometheus::BuildCounter()
                                               .Name("kveil_kek_errors_total")
                                               .Help("Those of these calls that failed.")
                                               .Register(*registry);
  prometheus::Family<Counter>& kekSeconds = prometheus::BuildCounter()
                                                .Name("kveil_kek_seconds_total")
                                                .Help("How long these calls took together.")
                                                .Register(*registry);
  prometheus::Family<Gauge>& kekKeys = prometheus::BuildGauge()
                                           .Name("kveil_kek_keys")
                                           .Help("Keys that KEKs have wrapped and that were asked for lately.")
                                           .Register(*registry);
  // By keyspace. Two threads must not add and remove the same one.
  Mutex ofKeyspaces;
  prometheus::Family<Gauge>& consentsFollowed =
      Of("kveil_consents_following", "1 when this agent follows the topic that the keyspace's consents come from.");
  prometheus::Family<Gauge>& consentsStale =
      Of("kveil_consents_stale", "1 when no consent of the topic counts, as withdrawals may be missing.");
  prometheus::Family<Gauge>& consentsBehind =
      Of("kveil_consents_lag_records", "Offsets of the topic that are not read yet, at the agent that follows.");
  prometheus::Family<Gauge>& consentsReadAt =
      Of("kveil_consents_read_timestamp_seconds", "When all of the topic was read last.");
  prometheus::Family<Gauge>& consentsUnreadable = Of(
      "kveil_consents_unreadable_records", "Records that could not be read, since the topic was read from its start.");
  std::array<Counter*, 2> reloads =
      Labelled(*registry, "kveil_policy_reloads_total", "Readings of the policies after the first, by result.",
               "result", std::array<const char*, 2>{"ok", "refused"});
  Gauge* policiesRefused =
      Level(*registry, "kveil_policy_refused", "1 while the policies on disk are refused, and older ones in force.");
  Gauge* epoch = Level(*registry, "kveil_epoch", "The number of the epoch whose key wraps new keys.");
  Gauge* epochAge = Level(*registry, "kveil_epoch_age_seconds", "How long ago this epoch's key was made.");
  Gauge* epochTurning = Level(*registry, "kveil_epoch_turning", "1 while keys move to another epoch.");
  Gauge* generation = Level(*registry, "kveil_policy_generation", "How many policies took force since the start.");
  prometheus::Family<Gauge>& policyInfo =
      prometheus::BuildGauge()
          .Name("kveil_policy_info")
          .Help("Always 1; its labels tell digest and version of the policies in force.")
          .Register(*registry);
  Gauge* policyInForce = nullptr;  // the one of policyInfo
  prometheus::Family<Gauge>& pullConfirmed =
      Of("kveil_policy_pull_timestamp_seconds", "When the policies were last those that the server has, or 0.");
  Counter* pullFailures = Plain(*registry, "kveil_policy_pull_failures_total",
                                "Questions for policies that the server did not answer well.");
  Gauge* ready = Level(*registry, "kveil_ready", "1 when everything that is configured is served.");

  prometheus::Family<Gauge>& Of(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(*registry);
  }
};

Metrics::Metrics(const std::string& version) : families_(std::make_unique<Families>()) {
  prometheus::BuildGauge()
      .Name("kveil_build_info")
      .Help("Always 1; its label tells the version.")
      .Register(*families_->registry)
      .Add({{"version", version}})
      .Set(1);
}

Metrics::~Metrics() = default;

void Metrics::RecordsSealed(uint64_t count) { Add(families_->sealed, count); }
void Metrics::RecordsOpened(uint64_t count) { Add(families_->opened, count); }
void Metrics::RecordsPassedPlain(uint64_t count) { Add(families_->passedPlain, count); }
void Metrics::RecordsAfterErasure(uint64_t count) { Add(families_->afterErasure, count); }
void Metrics::BatchesSplit(uint64_t count) { Add(families_->split, count); }
void Metrics::ProducersNotRemembered(uint64_t count) { Add(families_->notRemembered, count); }
void Metrics::UnselectedWrites(uint64_t count) { Add(families_->unselected, count); }
void Metrics::RecordsDropped(DropReason reason, uint64_t count) {
  Add(families_->dropped[static_cast<size_t>(reason)], count);
}
void Metrics::RecordsMasked(DropReason reason, uint64_t count) {
  Add(families_->masked[static_cast<size_t>(reason)], count);
}
void Metrics::RecordsRefused(RefuseReason reason, uint64_t count) {
  Add(families_->refused[static_cast<size_t>(reason)], count);
}

void Metrics::BytesReceived(Side from, uint64_t count) { Add(families_->received[static_cast<size_t>(from)], count); }
void Metrics::BytesSent(Side to, uint64_t count) { Add(families_->sent[static_cast<size_t>(to)], count); }

void Metrics::ConnectionOpened() { families_->open->Increment(); }
void Metrics::ConnectionClosed(ConnectionResult result) {
  families_->open->Decrement();
  families_->closed[static_cast<size_t>(result)]->Increment();
}
void Metrics::IdentityWaitedFor(bool isKnown, std::chrono::milliseconds time) {
  families_->identityWaits[isKnown ? 0 : 1]->Increment();
  families_->identityWaitSeconds->Increment(std::chrono::duration<double>(time).count());
}

void Metrics::HeldBack(int change) {
  families_->heldBack->Increment(change);
  if (change > 0) families_->timesHeldBack->Increment(change);
}
void Metrics::Passed(int change) {
  families_->passed->Increment(change);
  if (change > 0) families_->timesPassed->Increment(change);
}
void Metrics::HandshakeWaits(int change) { families_->handshakesWaiting->Increment(change); }
void Metrics::HandshakeDone(bool isResumed) { families_->handshakes[isResumed ? 1 : 0]->Increment(); }
void Metrics::NamespacesServed(uint64_t now) { families_->namespaces->Set(static_cast<double>(now)); }
void Metrics::HeldConnects(uint64_t held, uint64_t released, uint64_t ended) {
  const std::array<uint64_t, 3> counts = {held, released, ended};
  for (size_t i = 0; i < counts.size(); ++i) {
    Counter* const counter = families_->held[i];
    const auto shown = static_cast<uint64_t>(counter->Value());
    if (counts[i] > shown) Add(counter, counts[i] - shown);
  }
}

void Metrics::KeyCacheHits(uint64_t count) { Add(families_->lookups[0], count); }
void Metrics::KeyCacheMisses(uint64_t count) { Add(families_->lookups[1], count); }
void Metrics::UsersErased(uint64_t count) { Add(families_->erased, count); }

void Metrics::AuditTopic(uint64_t sent, uint64_t behind, uint64_t missed) {
  for (const auto& [counter, now] : {std::pair{families_->auditSent, sent}, {families_->auditMissed, missed}}) {
    const double more = static_cast<double>(now) - counter->Value();
    if (more > 0) counter->Increment(more);
  }
  families_->auditBehind->Set(static_cast<double>(behind));
}

void Metrics::LogLinesLost(uint64_t unread, uint64_t limited) {
  const std::array<uint64_t, 2> now = {unread, limited};
  for (size_t i = 0; i < now.size(); ++i) {
    const double more = static_cast<double>(now[i]) - families_->linesLost[i]->Value();
    if (more > 0) families_->linesLost[i]->Increment(more);
  }
}

namespace {

// `total`: since the start.
void CountUpTo(prometheus::Family<Counter>& family, const prometheus::Labels& labels, double total) {
  Counter& counter = family.Add(labels);  // the one that is there, after the first time
  if (total > counter.Value()) counter.Increment(total - counter.Value());
}

}  // namespace

void Metrics::RootKeyCalls(const std::string& provider, const std::string& operation, uint64_t calls, uint64_t errors,
                           double seconds) {
  const prometheus::Labels labels = {{"provider", provider}, {"operation", operation}};
  CountUpTo(families_->rootKeyCalls, labels, static_cast<double>(calls));
  CountUpTo(families_->rootKeyErrors, labels, static_cast<double>(errors));
  CountUpTo(families_->rootKeySeconds, labels, seconds);
}

void Metrics::KekCalls(const std::string& provider, uint64_t calls, uint64_t errors, double seconds) {
  const prometheus::Labels labels = {{"provider", provider}};
  CountUpTo(families_->kekCalls, labels, static_cast<double>(calls));
  CountUpTo(families_->kekErrors, labels, static_cast<double>(errors));
  CountUpTo(families_->kekSeconds, labels, seconds);
}

void Metrics::KekKeysAre(const std::string& provider, const std::string& state, uint64_t keys) {
  families_->kekKeys.Add({{"provider", provider}, {"state", state}}).Set(static_cast<double>(keys));
}

void Metrics::ConsentTopicIs(const std::string& keyspace, const ConsentTopic& now) {
  const MutexLock lock(families_->ofKeyspaces);
  SetOfKeyspace(families_->consentsFollowed, keyspace, now.isFollowed);
  SetOfKeyspace(families_->consentsBehind, keyspace, now.recordsBehind);
  SetOfKeyspace(families_->consentsReadAt, keyspace, now.readAt);
  SetOfKeyspace(families_->consentsUnreadable, keyspace, static_cast<double>(now.unreadable));
}

void Metrics::ConsentsAreStale(const std::string& keyspace, std::optional<bool> isStale) {
  const MutexLock lock(families_->ofKeyspaces);
  SetOfKeyspace(families_->consentsStale, keyspace, isStale);
}

void Metrics::PolicyReloaded(bool ok) {
  families_->reloads[ok ? 0 : 1]->Increment();
  families_->policiesRefused->Set(ok ? 0 : 1);
}
void Metrics::PolicyGeneration(uint64_t generation) { families_->generation->Set(static_cast<double>(generation)); }
void Metrics::EpochIs(int64_t number, double ageSeconds, bool isTurning) {
  families_->epoch->Set(static_cast<double>(number));
  families_->epochAge->Set(ageSeconds);
  families_->epochTurning->Set(isTurning ? 1 : 0);
}
void Metrics::PolicyInForce(const std::string& digest, int64_t version) {
  Gauge* const now = &families_->policyInfo.Add({{"digest", digest}, {"version", std::to_string(version)}});
  Gauge* const before = std::exchange(families_->policyInForce, now);
  now->Set(1);
  if (before != nullptr && before != now) families_->policyInfo.Remove(before);
}
void Metrics::PolicyPull(std::optional<double> confirmed, uint64_t failures) {
  families_->pullConfirmed.Add({}).Set(confirmed.value_or(0));  // an alert sees what is there only
  const double more = static_cast<double>(failures) - families_->pullFailures->Value();
  if (more > 0) families_->pullFailures->Increment(more);
}
void Metrics::Ready(bool ready) { families_->ready->Set(ready ? 1 : 0); }

Metrics::Totals Metrics::totals() const {
  // One that closes may be counted before the one that opened.
  const auto whole = [](double value) { return static_cast<uint64_t>(std::max(value, 0.0)); };
  return {.sealed = whole(families_->sealed->Value()),
          .opened = whole(families_->opened->Value()),
          .dropped = Sum(families_->dropped),
          .refused = Sum(families_->refused),
          .connectionsOpen = whole(families_->open->Value()),
          .connectionsHeldBack = whole(families_->heldBack->Value()),
          .connectionsPassed = whole(families_->passed->Value()),
          .handshakesWaiting = whole(families_->handshakesWaiting->Value()),
          .namespaces = whole(families_->namespaces->Value())};
}

std::string Metrics::Text() const { return prometheus::TextSerializer().Serialize(families_->registry->Collect()); }

}  // namespace kveil::observe
