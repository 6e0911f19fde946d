// The agent's counters and gauges, and the HTTP endpoint that shows them to Prometheus. docs/operations.md lists them.
//
// Any thread. A call costs an atomic addition or two: make it once per batch or frame, not per record.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/socket_address.h"

namespace kveil::observe {

// Why a fetched record was left out, or kept without its value.
enum class DropReason : uint8_t {
  kErased,     // the user was erased
  kPlaintext,  // it has no envelope, and the policy drops those
  kDenied,     // no entry of `read` that fits the workload lets it read the record
};
inline constexpr int kDropReasons = 3;

// Why produced or fetched records were answered with an error.
enum class RefuseReason : uint8_t {
  kDenied,              // no rule fits the workload, or the record that it writes
  kKeysUnavailable,     // the registry or root key cannot be used now
  kNoUser,              // the record names no user where the policy looks for one
  kNotJson,             // the value or key is not JSON and the policy points into it
  kAmbiguousUser,       // readers may differ on whose record it is
  kBadUserId,           // not an id of the encoding that the policy declares
  kAlreadySealed,       // a produced record carries an envelope
  kMalformed,           // the batch does not parse
  kBadChecksum,         // the batch's CRC is wrong
  kOldFormat,           // message format 0 or 1
  kOutOfOrder,          // follows a refused batch of the same producer
  kTooLarge,            // past a limit
  kTampered,            // an envelope that does not open
  kUnknownKey,          // an envelope whose key is not in the registry
  kUnselected,          // produced to a topic that no policy selects, where the policy refuses those
  kUnsupportedVersion,  // a request version that the codec does not know
  kOther,
};
inline constexpr int kRefuseReasons = 17;

// How an intercepted connection went.
enum class ConnectionResult : uint8_t {
  kServed,
  kNoOrigin,           // accepted without an original destination: not redirected by the agent
  kBrokerUnreachable,  // the broker refused or timed out
  kNotKafka,           // HTTP or other bytes where a Kafka request was due
  kUnsupported,        // a Kafka version that cannot be protected
  kLimit,              // too many connections or too much memory
  kStalled,            // a peer that did not continue
  kTlsFailed,          // the broker's certificate is refused, or it refused ours
  kClientTls,          // the application speaks TLS, which is refused
  kClientTlsFailed,    // no TLS with the application: it refused the certificate, or its own is refused
};
inline constexpr int kConnectionResults = 10;

enum class Side : uint8_t { kClient, kBroker };

class Metrics {
 public:
  explicit Metrics(const std::string& version);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void RecordsSealed(uint64_t count);
  void RecordsOpened(uint64_t count);
  void RecordsPassedPlain(uint64_t count);   // fetched without an envelope from a protected topic, passed by policy
  void RecordsAfterErasure(uint64_t count);  // of users erased before, sealed with a key that is not kept
  void BatchesSplit(uint64_t count);         // too large for their topic when sealed
  // Of idempotent producers, whose order could not be kept in memory: their connections were closed, or their batches
  // refused.
  void ProducersNotRemembered(uint64_t count);
  void UnselectedWrites(uint64_t count);  // requests and topics, by workloads that had read a protected topic
  void RecordsDropped(DropReason reason, uint64_t count);
  void RecordsMasked(DropReason reason, uint64_t count);  // passed on without their value
  void RecordsRefused(RefuseReason reason, uint64_t count);

  void BytesReceived(Side from, uint64_t count);
  void BytesSent(Side to, uint64_t count);

  void ConnectionOpened();
  void ConnectionClosed(ConnectionResult result);
  // A connection that waited until it was known whose it is, or that is nobody's.
  void IdentityWaitedFor(bool isKnown, std::chrono::milliseconds time);
  void HeldBack(int change);           // connections that are not read until their application is owed less
  void Passed(int change);             // connections on which the application speaks TLS with the broker: not protected
  void HandshakeWaits(int change);     // connections whose workload has as many TLS handshakes under way as it may
  void HandshakeDone(bool isResumed);  // with an application
  void NamespacesServed(uint64_t now);
  // Of first connects in new network namespaces, since the start: all, those that were let go to the agent, those that
  // ended before.
  void HeldConnects(uint64_t held, uint64_t released, uint64_t ended);

  void KeyCacheHits(uint64_t count);
  void KeyCacheMisses(uint64_t count);
  void UsersErased(uint64_t count);

  // Of the topic that the audit trail is sent to: lines that were sent, and lines that were removed before, since the
  // start; lines that wait.
  void AuditTopic(uint64_t sent, uint64_t behind, uint64_t missed);

  void LogLinesLost(uint64_t unread, uint64_t limited);  // since the start

  // Of a root key that is a network away, since the start.
  void RootKeyCalls(const std::string& provider, const std::string& operation, uint64_t calls, uint64_t errors,
                    double seconds);

  // Of a provider of KEKs, since the start; and its keys, by state: "usable", "unreachable", "denied", "unusable",
  // "damaged".
  void KekCalls(const std::string& provider, uint64_t calls, uint64_t errors, double seconds);
  void KekKeysAre(const std::string& provider, const std::string& state, uint64_t keys);

  // Of a topic that the consents of a keyspace come from, as this agent knows it.
  struct ConsentTopic {
    bool isFollowed = false;              // by this agent
    std::optional<double> recordsBehind;  // nullopt: this agent does not follow
    std::optional<double> readAt;         // when all of it was read last, seconds since 1970; nullopt: not known
    uint64_t unreadable = 0;              // records, since it was read from its beginning
  };
  void ConsentTopicIs(const std::string& keyspace, const ConsentTopic& now);
  // Whether no consent of the topic counts. nullopt: it does not concern this agent any more.
  void ConsentsAreStale(const std::string& keyspace, std::optional<bool> isStale);

  void PolicyReloaded(bool ok);
  void PolicyGeneration(uint64_t generation);
  // The digest of its files, and the version that is signed, or 0. From one thread.
  // The epoch in use: its number, how long ago it was made, and whether another takes its place now.
  void EpochIs(int64_t number, double ageSeconds, bool isTurning);
  void PolicyInForce(const std::string& digest, int64_t version);
  // Of policies that are pulled: when the server last said that they are those it has, in seconds since 1970 (nullopt:
  // not since the start, shown as 0), and how often it was asked in vain since the start.
  void PolicyPull(std::optional<double> confirmed, uint64_t failures);
  void Ready(bool ready);

  // Sums for `kveil status`.
  struct Totals {
    uint64_t sealed = 0, opened = 0, dropped = 0, refused = 0;
    uint64_t connectionsOpen = 0, connectionsHeldBack = 0, connectionsPassed = 0, handshakesWaiting = 0, namespaces = 0;
  };
  Totals totals() const;

  // Everything in Prometheus' text format.
  std::string Text() const;

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

// Answers over HTTP on a thread of its own, until it is destroyed: GET /metrics, for probes GET /healthz and /readyz
// with 200 or 503, and the page that page.h tells of. `metrics` outlives it. A client has two seconds to ask and two to
// read. Of more than 64 clients at a time, the oldest is closed.
class MetricsEndpoint {
 public:
  // On the endpoint's thread. They do not block.
  struct Probes {
    std::function<bool()> isAlive;  // /healthz; if not, only a new process helps
    std::function<bool()> isReady;  // /readyz
  };
  // The web page, which shows what /metrics has.
  struct Page {
    bool isOn = false;
    // Has /connections.json answered, which the page shows in a table: calls back with the JSON, or with nothing if too
    // many ask. On the endpoint's thread, and does not block; the answer may come later, on any. Empty: there is none.
    std::function<void(std::function<void(std::string_view json)>)> connections = {};
  };
  // kUnavailable if it cannot listen at the address. Port 0 means any free port.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Listen(const SocketAddress& address, const Metrics& metrics,
                                                                 Probes probes, Page page);
  ~MetricsEndpoint();
  MetricsEndpoint(const MetricsEndpoint&) = delete;
  MetricsEndpoint& operator=(const MetricsEndpoint&) = delete;
  uint16_t port() const;

 private:
  struct Server;
  explicit MetricsEndpoint(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace kveil::observe
