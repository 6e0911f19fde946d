// Counts arrive under their documented names, in the text and over HTTP.
#include "observe/metrics.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <fstream>
#include <regex>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "source_dir.h"

namespace kveil::observe {
namespace {

using ::testing::HasSubstr;

SocketAddress Loopback(uint16_t port) { return *SocketAddress::Parse("127.0.0.1", port); }

std::string HttpGet(uint16_t port, const std::string& path) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress address = Loopback(port);
  if (::connect(socket.get(), address.get(), address.size()) != 0) return "cannot connect";
  const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
  EXPECT_EQ(::send(socket.get(), request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string answer;
  char chunk[4096];
  for (ssize_t count; (count = ::recv(socket.get(), chunk, sizeof(chunk), 0)) > 0;) answer.append(chunk, count);
  return answer;
}

TEST(MetricsTest, EveryMethodCountsWhereItSays) {
  Metrics metrics("1.2.3");
  metrics.RecordsSealed(10);
  metrics.RecordsOpened(20);
  metrics.RecordsPassedPlain(3);
  metrics.RecordsAfterErasure(4);
  metrics.BatchesSplit(14);
  metrics.RecordsDropped(DropReason::kErased, 5);
  metrics.RecordsDropped(DropReason::kPlaintext, 6);
  metrics.RecordsRefused(RefuseReason::kDenied, 7);
  metrics.RecordsRefused(RefuseReason::kOther, 8);
  metrics.BytesReceived(Side::kClient, 100);
  metrics.BytesReceived(Side::kBroker, 200);
  metrics.BytesSent(Side::kBroker, 300);
  metrics.ConnectionOpened();
  metrics.ConnectionOpened();
  metrics.ConnectionClosed(ConnectionResult::kStalled);
  metrics.HeldBack(1);
  metrics.HeldBack(1);
  metrics.HeldBack(-1);
  metrics.AuditTopic(10, 5, 1);
  metrics.AuditTopic(12, 3, 2);  // in all
  metrics.LogLinesLost(3, 10);
  metrics.LogLinesLost(5, 11);  // in all
  metrics.Passed(1);
  metrics.Passed(1);
  metrics.Passed(-1);
  metrics.NamespacesServed(9);
  metrics.HeldConnects(3, 1, 1);
  metrics.HeldConnects(5, 3, 2);
  metrics.RootKeyCalls("vault", "unwrap", 3, 1, 0.5);
  metrics.RootKeyCalls("vault", "unwrap", 5, 2, 1.5);  // in all
  metrics.KekCalls("payments", 3, 3, 0.25);
  metrics.KekCalls("payments", 7, 3, 0.5);
  metrics.KekKeysAre("payments", "denied", 1);
  metrics.KekKeysAre("payments", "denied", 2);
  metrics.ConsentTopicIs("customers", {true, 7, 1'700'000'000, 3});
  metrics.ConsentTopicIs("people", {true, 5, 8, 0});
  metrics.ConsentTopicIs("people", {false, std::nullopt, std::nullopt, 0});
  metrics.ConsentsAreStale("customers", false);
  metrics.ConsentsAreStale("people", true);
  metrics.ConsentsAreStale("retired", true);
  metrics.ConsentsAreStale("retired", std::nullopt);
  metrics.ConsentsAreStale("never", std::nullopt);
  metrics.KeyCacheHits(11);
  metrics.KeyCacheMisses(12);
  metrics.UsersErased(1);
  metrics.PolicyReloaded(false);
  metrics.PolicyGeneration(13);
  metrics.PolicyInForce("ab12", 7);
  metrics.PolicyPull(std::nullopt, 3);
  EXPECT_THAT(metrics.Text(), HasSubstr("kveil_policy_pull_timestamp_seconds 0\n")) << "never";
  metrics.PolicyPull(1'700'000'000, 5);  // in all
  metrics.Ready(true);
  const std::string text = metrics.Text();
  for (const char* line : {
           "kveil_build_info{version=\"1.2.3\"} 1\n",
           "kveil_audit_topic_lines_total 12\n",
           "kveil_audit_topic_lag_lines 3\n",
           "kveil_audit_topic_lines_missed_total 2\n",
           "kveil_root_key_calls_total{operation=\"unwrap\",provider=\"vault\"} 5\n",
           "kveil_root_key_errors_total{operation=\"unwrap\",provider=\"vault\"} 2\n",
           "kveil_root_key_seconds_total{operation=\"unwrap\",provider=\"vault\"} 1.5\n",
           "kveil_kek_calls_total{provider=\"payments\"} 7\n",
           "kveil_kek_errors_total{provider=\"payments\"} 3\n",
           "kveil_kek_seconds_total{provider=\"payments\"} 0.5\n",
           "kveil_kek_keys{provider=\"payments\",state=\"denied\"} 2\n",
           "kveil_consents_following{keyspace=\"customers\"} 1\n",
           "kveil_consents_following{keyspace=\"people\"} 0\n",
           "kveil_consents_stale{keyspace=\"customers\"} 0\n",
           "kveil_consents_stale{keyspace=\"people\"} 1\n",
           "kveil_consents_lag_records{keyspace=\"customers\"} 7\n",
           "kveil_consents_read_timestamp_seconds{keyspace=\"customers\"} 1700000000\n",
           "kveil_consents_unreadable_records{keyspace=\"customers\"} 3\n",
           "kveil_records_sealed_total 10\n",
           "kveil_records_opened_total 20\n",
           "kveil_records_passed_plain_total 3\n",
           "kveil_records_after_erasure_total 4\n",
           "kveil_batches_split_total 14\n",
           "kveil_records_dropped_total{reason=\"erased\"} 5\n",
           "kveil_records_dropped_total{reason=\"plaintext\"} 6\n",
           "kveil_records_refused_total{reason=\"denied\"} 7\n",
           "kveil_records_refused_total{reason=\"other\"} 8\n",
           "kveil_records_refused_total{reason=\"tampered\"} 0\n",
           "kveil_received_bytes_total{from=\"client\"} 100\n",
           "kveil_received_bytes_total{from=\"broker\"} 200\n",
           "kveil_sent_bytes_total{to=\"broker\"} 300\n",
           "kveil_connections_open 1\n",
           "kveil_connections_closed_total{result=\"stalled\"} 1\n",
           "kveil_connections_passed 1\n",
           "kveil_connections_passed_total 2\n",
           "kveil_namespaces 9\n",
           "kveil_held_connects_total{state=\"held\"} 5\n",
           "kveil_held_connects_total{state=\"released\"} 3\n",
           "kveil_held_connects_total{state=\"ended\"} 2\n",
           "kveil_key_cache_lookups_total{result=\"hit\"} 11\n",
           "kveil_key_cache_lookups_total{result=\"miss\"} 12\n",
           "kveil_users_erased_total 1\n",
           "kveil_policy_reloads_total{result=\"refused\"} 1\n",
           "kveil_policy_refused 1\n",
           "kveil_policy_generation 13\n",
           "kveil_policy_info{digest=\"ab12\",version=\"7\"} 1\n",
           "kveil_policy_pull_timestamp_seconds 1700000000\n",
           "kveil_policy_pull_failures_total 5\n",
           "kveil_connections_held_back 1\n",
           "kveil_connections_held_back_total 2\n",
           "kveil_log_lines_lost_total{reason=\"unread\"} 5\n",
           "kveil_log_lines_lost_total{reason=\"limited\"} 11\n",
           "kveil_ready 1\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  // What is not known is not shown.
  EXPECT_THAT(text, testing::Not(HasSubstr("kveil_consents_lag_records{keyspace=\"people\"}")));
  EXPECT_THAT(text, testing::Not(HasSubstr("kveil_consents_read_timestamp_seconds{keyspace=\"people\"}")));
}

TEST(MetricsTest, ShowOnlyTheDigestOfThePoliciesInForce) {
  Metrics metrics("x");
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("kveil_policy_info{")));
  for (const char* digest : {"first", "first", "second"}) metrics.PolicyInForce(digest, 0);
  EXPECT_THAT(metrics.Text(), HasSubstr("kveil_policy_info{digest=\"second\",version=\"0\"} 1\n"));
  EXPECT_THAT(metrics.Text(), Not(HasSubstr("=\"first\"")));
}

TEST(MetricsTest, TotalsSumTheReasons) {
  Metrics metrics("x");
  metrics.RecordsSealed(1);
  metrics.RecordsOpened(2);
  metrics.RecordsDropped(DropReason::kErased, 3);
  metrics.RecordsDropped(DropReason::kPlaintext, 4);
  metrics.RecordsRefused(RefuseReason::kNoUser, 5);
  metrics.RecordsRefused(RefuseReason::kNotJson, 6);
  metrics.ConnectionOpened();
  metrics.NamespacesServed(8);
  const Metrics::Totals totals = metrics.totals();
  EXPECT_EQ(totals.sealed, 1u);
  EXPECT_EQ(totals.opened, 2u);
  EXPECT_EQ(totals.dropped, 7u);
  EXPECT_EQ(totals.refused, 11u);
  EXPECT_EQ(totals.connectionsOpen, 1u);
  EXPECT_EQ(totals.namespaces, 8u);
}

TEST(MetricsTest, ThreadsLoseNoCount) {
  Metrics metrics("x");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 10000; ++n) metrics.RecordsSealed(3);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(metrics.totals().sealed, 120000u);
}

TEST(MetricsTest, EveryNameAndLabelIsDocumented) {
  std::ostringstream document;
  document << std::ifstream(KVEIL_SOURCE_DIR "/docs/operations.md").rdbuf();
  Metrics metrics("x");
  metrics.ConsentTopicIs("k", {true, 1, 1, 1});
  metrics.ConsentsAreStale("k", true);
  std::istringstream text(metrics.Text());
  for (std::string line; std::getline(text, line);) {
    if (line.rfind("#", 0) == 0) continue;
    const std::string name = line.substr(0, line.find_first_of("{ "));
    const auto hasCode = [&](const std::string& code) { return document.str().find("`" + code) != std::string::npos; };
    EXPECT_TRUE(hasCode(name)) << line;
    const size_t quote = line.find('"');
    const bool isOfKeyspace = line.find("{keyspace=") != std::string::npos;
    if (quote == std::string::npos || name == "kveil_build_info" || isOfKeyspace) continue;
    EXPECT_TRUE(hasCode(line.substr(quote + 1, line.rfind('"') - quote - 1) + "`")) << line;
  }
}

// Of an expression such as rate(kveil_x_total{instance=~"$instance", reason="erased"}[5m]), each metric with its
// labels. Those that Prometheus and the dashboard bring along are not the agent's.
TEST(MetricsTest, AlertsAndDashboardNameOnlyWhatThereIs) {
  Metrics metrics("x");
  metrics.RootKeyCalls("vault", "unwrap", 1, 1, 0.1);
  metrics.ConsentTopicIs("k", {true, 1, 1, 1});
  metrics.ConsentsAreStale("k", true);
  metrics.PolicyInForce("ab12", 7);
  metrics.PolicyPull(1, 1);
  const std::string text = metrics.Text();
  for (const char* file : {"alerts.yaml", "dashboard.json"}) {
    std::ostringstream content;
    content << std::ifstream(StrCat(KVEIL_SOURCE_DIR "/kubernetes/monitoring/", file)).rdbuf();
    const std::string all = absl::StrReplaceAll(content.str(), {{"\\\"", "\""}});
    const std::regex metric(R"((kveil_[a-z_]+)(?:\{([^}]*)\})?)");
    const std::regex label(R"re((\w+)(?:=|!=|=~)"([^"]*)")re");
    int found = 0;
    for (std::sregex_iterator it(all.begin(), all.end(), metric), end; it != end; ++it, ++found) {
      const std::string name = (*it)[1], labels = (*it)[2];
      EXPECT_TRUE(absl::StrContains(text, StrCat("\n", name, " ")) || absl::StrContains(text, StrCat("\n", name, "{")))
          << file << ": " << name;
      for (std::sregex_iterator pair(labels.begin(), labels.end(), label); pair != end; ++pair) {
        if ((*pair)[1] == "instance") continue;
        EXPECT_TRUE(absl::StrContains(text, StrCat(name, "{", (*pair)[1].str(), "=\"", (*pair)[2].str(), "\"")))
            << file << ": " << pair->str() << " of " << name;
      }
    }
    EXPECT_GT(found, 10) << file;
  }
}

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> ListenAt(uint16_t port, const Metrics& metrics) {
  return MetricsEndpoint::Listen(Loopback(port), metrics, {[] { return true; }, [] { return true; }}, {});
}

TEST(MetricsEndpointTest, AnswersOverHttp) {
  Metrics metrics("x");
  metrics.RecordsSealed(42);
  const auto endpoint = ListenAt(0, metrics);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const std::string answer = HttpGet((*endpoint)->port(), "/metrics");
  EXPECT_THAT(answer, HasSubstr("200 OK"));
  EXPECT_THAT(answer, HasSubstr("kveil_records_sealed_total 42\n"));
  EXPECT_THAT(HttpGet((*endpoint)->port(), "/other"), HasSubstr("404"));
}

TEST(MetricsEndpointTest, AnswersProbes) {
  Metrics metrics("x");
  std::atomic<bool> isAlive{true}, isReady{false};
  const auto endpoint = MetricsEndpoint::Listen(Loopback(0), metrics,
                                                {[&] { return isAlive.load(); }, [&] { return isReady.load(); }}, {});
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_THAT(HttpGet((*endpoint)->port(), "/healthz"), HasSubstr("200 OK"));
  const std::string notReady = HttpGet((*endpoint)->port(), "/readyz");
  EXPECT_THAT(notReady, HasSubstr("503 Service Unavailable"));
  EXPECT_THAT(notReady, HasSubstr("not ready"));
  isReady = true;
  isAlive = false;
  EXPECT_THAT(HttpGet((*endpoint)->port(), "/readyz"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet((*endpoint)->port(), "/healthz"), HasSubstr("503 Service Unavailable"));
}

UniqueFd ConnectTo(uint16_t port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SocketAddress address = Loopback(port);
  EXPECT_EQ(::connect(socket.get(), address.get(), address.size()), 0);
  return socket;
}

TEST(MetricsEndpointTest, SlowClientsHoldUpNobody) {
  Metrics metrics("x");
  const auto endpoint = ListenAt(0, metrics);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const auto begun = std::chrono::steady_clock::now();
  std::vector<UniqueFd> slow;
  for (int i = 0; i < 200; ++i) {
    slow.push_back(ConnectTo((*endpoint)->port()));
    const std::string part = i % 2 == 0 ? "GET /met" : "GET /metrics HTTP/1.1\r\n\r\n";  // and does not read
    ASSERT_EQ(::send(slow.back().get(), part.data(), part.size(), 0), static_cast<ssize_t>(part.size()));
  }
  for (int i = 0; i < 3; ++i) EXPECT_THAT(HttpGet((*endpoint)->port(), "/metrics"), HasSubstr("200 OK"));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(1500)) << "before any has timed out";
}

TEST(MetricsEndpointTest, SilentClientsAreClosed) {
  Metrics metrics("x");
  const auto endpoint = ListenAt(0, metrics);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const UniqueFd silent = ConnectTo((*endpoint)->port());
  char byte = 0;
  EXPECT_EQ(::recv(silent.get(), &byte, 1, 0), 0);
}

TEST(MetricsEndpointTest, RefusesWhatItDoesNotKnow) {
  Metrics metrics("x");
  const auto endpoint = ListenAt(0, metrics);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  const UniqueFd poster = ConnectTo((*endpoint)->port());
  ASSERT_GT(::send(poster.get(), "POST /metrics HTTP/1.1\r\n\r\n", 26, 0), 0);
  char answer[64] = {};
  EXPECT_GT(::recv(poster.get(), answer, sizeof(answer) - 1, 0), 0);
  EXPECT_THAT(std::string(answer), HasSubstr("405"));
  const UniqueFd endless = ConnectTo((*endpoint)->port());
  const std::string part(8192, 'x');
  while (::send(endless.get(), part.data(), part.size(), MSG_NOSIGNAL) > 0) {
  }
  EXPECT_THAT(HttpGet((*endpoint)->port(), "/metrics?a=b"), HasSubstr("200 OK"));
}

TEST(MetricsEndpointTest, TakenPortIsAnErrorThatNamesIt) {
  Metrics metrics("x");
  const auto first = ListenAt(0, metrics);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = ListenAt((*first)->port(), metrics);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("127.0.0.1:" + std::to_string((*first)->port())));
}

}  // namespace
}  // namespace kveil::observe
