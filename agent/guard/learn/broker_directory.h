// The brokers that responses advertise: each is made a target before the application hears of it, or reported.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "base/socket_address.h"
#include "io/loop.h"
#include "io/task.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// A connection to a broker that is not a target would bypass the agent, in the clear. So a response that names a broker
// waits here until the kernel knows the broker's addresses. A broker that cannot be learned is left out of the
// response; the others stay. Any thread may call.
class BrokerDirectory {
 public:
  using Addresses = std::vector<SocketAddress>;  // with any port
  using Answers = std::vector<absl::StatusOr<Addresses>>;

  struct Options {
    // Makes an address a target of the cluster that `targetIndex` names, for at least `lifetime`. An error says that it
    // must not, or cannot, become one.
    std::function<absl::Status(const SocketAddress&, uint16_t targetIndex, std::chrono::seconds lifetime)> learn;
    // The cluster that a target belongs to, and whether the cluster is reached over TLS.
    std::function<std::string(uint16_t targetIndex)> clusterOf;
    std::function<bool(uint16_t targetIndex)> hasTls;
    // The target that an address belongs to by configuration.
    std::function<std::optional<uint16_t>(const SocketAddress&)> targetOf;
    // Whether every address with this port is a target by configuration, as good as the connection's own target.
    std::function<bool(uint16_t port, uint16_t targetIndex)> coversAll = [](uint16_t, uint16_t) { return false; };
    // Looks up `names` as the workload of the connection would. Calls back once, within seconds, on any thread, with an
    // answer for each name in their order.
    std::function<void(const proxy::ConnectionInfo&, std::vector<std::string> names, absl::AnyInvocable<void(Answers)>)>
        lookUp;
    // The same for all workloads for which a name means the same.
    std::function<std::string(const proxy::ConnectionInfo&)> viewOf = [](const proxy::ConnectionInfo&) { return ""; };
    bool reportOnly = false;  // do not learn, but log each broker outside the targets, once per lifetime
    std::chrono::seconds lifetime = std::chrono::minutes(30);
    // The addresses of a name change (a pod restarts) and rotate. So a response that names it after this time makes the
    // agent look it up again. What was learned before stays for its lifetime.
    std::chrono::seconds lookAgain{5};
  };
  explicit BrokerDirectory(Options options);

  struct Advertised {
    std::string_view host;
    int32_t port = 0;
  };
  // Looks up the names among `brokers` and learns every address they have. Returns for each broker whether the client
  // may hear of it. It may not if the name does not resolve, an address belongs to another cluster, the kernel does not
  // take it, or the response names too many brokers before it. Suspends, for a few seconds at most, to look up names
  // that were not looked up a moment ago, and to let other connections have their turn. The views in `brokers` must
  // stay valid.
  io::Task<std::vector<bool>> Learn(io::Loop& loop, const proxy::ConnectionInfo& connection,
                                    std::vector<Advertised> brokers);

  // The host names under which responses of this cluster have advertised the address within the lifetime, latest first.
  // Empty if they advertise the address itself, and for clusters without TLS, which do not need names.
  std::vector<std::string> NamesOf(const SocketAddress& address, std::string_view cluster) const;

  // An error for a minute after a broker was left out of a response.
  absl::Status Health() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Name {
    std::string text;
    Clock::time_point advertisedAt;
  };
  using Names = std::vector<Name>;  // of one address, the latest first
  struct Learned {
    Clock::time_point at;
    Addresses addresses;  // those of a name, which need one, with the port
  };
  // Bounded per cluster, so that brokers of one cluster that make up names cost the others nothing.
  struct OfCluster {
    explicit OfCluster(Clock::duration lifetime);
    ExpiringMap<std::string, Learned> learned;  // by host, port and the view of the workload
    ExpiringMap<std::string, Names> names;      // by address
  };
  struct Asked;

  std::optional<Addresses> LearnedWithin(const std::string& cluster, const std::string& endpoint, Clock::duration age);
  void NoteLearned(const std::string& cluster, const std::string& endpoint, Addresses addresses);
  bool IsNews(const std::string& what, Clock::duration age);  // not said in the log for that long
  bool isOld(Clock::time_point time) const { return Clock::now() - time >= options_.lifetime; }
  void NoteName(const SocketAddress& address, std::string_view host, uint16_t targetIndex);
  void ForgetNames(const SocketAddress& address, uint16_t targetIndex);
  OfCluster& Of(const std::string& cluster) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteLeftOut(std::string_view host, int32_t port, const std::string& cluster, const absl::Status& reason);

  using Covered = absl::flat_hash_map<uint16_t, bool>;  // by port, for one response
  std::optional<absl::Status> Judge(Asked& asked, const proxy::ConnectionInfo& connection, Covered& covered);
  absl::Status LearnNumeric(Asked& asked, SocketAddress address, uint16_t targetIndex);
  absl::Status LearnNamed(Asked& asked, absl::StatusOr<Addresses> resolved, uint16_t targetIndex);
  io::Task<Answers> LookUp(io::Loop& loop, const proxy::ConnectionInfo& connection, std::vector<std::string> names);
  absl::Status LearnAddress(const SocketAddress& address, std::string_view host, uint16_t targetIndex);
  absl::Status CheckConfigured(const SocketAddress& address, uint16_t configured, uint16_t targetIndex) const;

  const Options options_;
  mutable Mutex mutex_;
  mutable absl::flat_hash_map<std::string, std::unique_ptr<OfCluster>> clusters_ ABSL_GUARDED_BY(mutex_);
  ExpiringMap<std::string, Clock::time_point> told_ ABSL_GUARDED_BY(mutex_);  // by what was said
  std::optional<Clock::time_point> leftOutAt_ ABSL_GUARDED_BY(mutex_);
  std::string leftOut_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
