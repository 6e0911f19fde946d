// The brokers that responses advertise: each is made a target before the application hears of it, or reported.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/socket_address.h"
#include "io/loop.h"
#include "io/task.h"

namespace kveil::guard {

// Any thread. An application that connects to a broker which is no target would go past the agent in the clear, so a
// response that names one waits here until the kernel knows its address.
class BrokerDirectory {
 public:
  struct Options {
    // Makes an address a target of the cluster that `targetIndex` names, for at least `lifetime`. An error: it may not
    // be, or cannot be.
    std::function<absl::Status(const SocketAddress&, uint16_t targetIndex, std::chrono::seconds lifetime)> learn;
    // The cluster that a target belongs to, and whether that is reached over TLS.
    std::function<std::string(uint16_t targetIndex)> clusterOf;
    std::function<bool(uint16_t targetIndex)> hasTls;
    // The target that an address belongs to by configuration.
    std::function<std::optional<uint16_t>(const SocketAddress&)> targetOf;
    // The addresses of a name, with any port.
    std::function<absl::StatusOr<std::vector<SocketAddress>>(const std::string& host)> resolve = Resolve;
    bool reportOnly = false;  // do not learn: log each broker outside the targets, once a lifetime
    std::chrono::seconds lifetime = std::chrono::minutes(30);
    // A name's addresses move (a pod that restarts) and rotate, so a response that names it has it looked up again
    // after this long; what was learned before stays for its lifetime.
    std::chrono::seconds lookAgain{5};
  };
  explicit BrokerDirectory(Options options) : options_(std::move(options)) {}

  // Resolves the name and learns every address it has. Suspends only the first time, and when an entry has grown old.
  // An error: the client must not hear of this broker. The name does not resolve, an address belongs to another
  // cluster, or the kernel does not take it.
  io::Task<absl::Status> Learn(io::Loop& loop, std::string_view host, int32_t port, uint16_t targetIndex);

  // The host names under which responses of this cluster have advertised the address within the lifetime, the latest
  // first; none where they advertise the address itself. Only of clusters with TLS, which need them.
  std::vector<std::string> NamesOf(const SocketAddress& address, std::string_view cluster) const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Name {
    std::string text;
    Clock::time_point advertisedAt;
  };
  using Names = std::vector<Name>;  // of one address, the latest first
  using Times = absl::flat_hash_map<std::string, Clock::time_point>;

  static absl::StatusOr<std::vector<SocketAddress>> Resolve(const std::string& host);
  // Whether an endpoint was learned, or is being looked up again, no longer ago than that.
  bool LearnedWithin(const std::string& endpoint, Clock::duration age);
  bool IsNews(const std::string& what, Clock::duration age);  // not said in the log for that long
  bool isOld(Clock::time_point time) const { return Clock::now() - time >= options_.lifetime; }
  void NoteName(const SocketAddress& address, std::string_view host, uint16_t targetIndex);
  void ForgetNames(const SocketAddress& address, uint16_t targetIndex);
  void MakeRoom(Times& times) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteLearned(const std::string& endpoint);
  io::Task<absl::StatusOr<std::vector<SocketAddress>>> Resolved(io::Loop& loop, std::string host);
  absl::Status LearnAddress(const SocketAddress& address, std::string_view host, uint16_t targetIndex);
  absl::Status CheckConfigured(const SocketAddress& address, uint16_t configured, uint16_t targetIndex) const;

  const Options options_;
  mutable std::mutex mutex_;
  absl::flat_hash_map<std::string, absl::flat_hash_map<std::string, Names>> names_
      ABSL_GUARDED_BY(mutex_);               // by cluster and address
  Times learnedAt_ ABSL_GUARDED_BY(mutex_);  // by cluster, host and port
  Times toldAt_ ABSL_GUARDED_BY(mutex_);     // by what was said
};

}  // namespace kveil::guard
