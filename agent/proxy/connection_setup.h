// What a new connection needs of the rest of the agent: the one call from the accept path up to daemon/.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "io/loop.h"
#include "io/tls_session.h"
#include "observe/metrics.h"
#include "proxy/connection_info.h"
#include "proxy/interceptor.h"

namespace kveil::proxy {

// What becomes of an application that speaks TLS itself. One that speaks Kafka without it is served, but for kRequire.
enum class ClientTls {
  kRefuse,     // its connection ends
  kPass,       // what it sends and gets is relayed as it is
  kTerminate,  // the agent speaks TLS with it in place of the broker
  kRequire,    // the same; and nobody is served without
};

// Makes one end of a TLS connection, on the worker's thread. Fails with the reason why there can be none.
using TlsMaker = absl::AnyInvocable<absl::StatusOr<std::unique_ptr<io::TlsSession>>(const ConnectionInfo&)>;

// What is made for one connection and belongs to it.
struct ConnectionParts {
  UniqueFd upstream;                                       // the socket to the broker, not connected yet
  TlsMaker brokerTls;                                      // to the broker; empty, or makes nullptr: plain TCP
  std::vector<std::unique_ptr<Interceptor>> interceptors;  // they may refer to the ConnectionInfo
  ClientTls clientTls = ClientTls::kRefuse;
  TlsMaker applicationTls;  // with kTerminate and kRequire: from the application
};

// Why a connection is turned away.
struct Refusal {
  observe::ConnectionResult result;
  std::string reason;
};

// The workers call this on their own threads, at the same time.
class ConnectionSetup {
 public:
  virtual ~ConnectionSetup() = default;

  // Returns whose connection an accepted socket is and where it was going. The caller sets `id`. The connection does
  // not have its place among limits.connections yet, so this only looks things up.
  // kCancelled: close the socket without a word (the agent's own probe). Any other error: reset it and log why.
  virtual absl::StatusOr<ConnectionInfo> Identify(int acceptedFd) = 0;

  // Adds what is said elsewhere of the workload that the kernel attests: who its pod is. False: that is not known yet,
  // so call it again in a moment. It does not wait. Once the connection has its place.
  virtual bool IsWhole(ConnectionInfo& /*connection*/) { return true; }

  // Makes everything else, once the connection has its place. `connection` outlives what is made. `worker` is the
  // worker's index and `loop` its loop.
  virtual std::variant<ConnectionParts, Refusal> SetUp(const ConnectionInfo& connection, size_t worker,
                                                       io::Loop& loop) = 0;
};

}  // namespace kveil::proxy
