// The brokers that responses advertise: each is made a target before the application hears of it, or reported.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include "base/socket_address.h"
#include "io/loop.h"
#include "io/task.h"

namespace kveil::guard {

// Any thread. An application that connects to a broker which is no target would go past the agent in the clear, so a
// response that names one waits here until the kernel knows its address.
class BrokerDirectory {
 public:
  struct Options {
    // Makes an address a target of the cluster that `targetIndex` names, for at least `lifetime`.
    std::function<absl::Status(const SocketAddress&, uint16_t targetIndex, std::chrono::seconds lifetime)> learn;
    // The cluster that a target belongs to.
    std::function<std::string(uint16_t targetIndex)> clusterOf;
    // Whether an address is a target already, by configuration.
    std::function<bool(const SocketAddress&)> isTarget;
    bool reportOnly = false;  // do not learn: log each broker outside the targets, once a lifetime
    std::chrono::seconds lifetime = std::chrono::minutes(30);
  };
  explicit BrokerDirectory(Options options) : options_(std::move(options)) {}

  // Resolves the name and learns every address it has. Suspends only the first time, and when an entry has grown old.
  // An error: the name does not resolve, or the kernel does not take the address.
  io::Task<absl::Status> Learn(io::Loop& loop, std::string_view host, int32_t port, uint16_t targetIndex);

  // The host name, if it was one, under which a response of this cluster last advertised the address; otherwise empty.
  std::string NameOf(const SocketAddress& address, std::string_view cluster) const;

 private:
  using Clock = std::chrono::steady_clock;

  // Whether an endpoint was learned, or is being looked up again, no longer ago than that.
  bool LearnedWithin(const std::string& endpoint, Clock::duration age);
  bool IsNews(const SocketAddress& address);  // not said in the log within a lifetime
  void NoteLearned(const std::string& endpoint);
  absl::Status LearnAddress(const SocketAddress& address, std::string_view host, uint16_t targetIndex);
  absl::Status ResolveAndLearn(const std::string& host, uint16_t port, uint16_t targetIndex);

  const Options options_;
  mutable std::mutex mutex_;
  absl::flat_hash_map<std::string, std::string> nameOf_ ABSL_GUARDED_BY(mutex_);  // by cluster and address
  absl::flat_hash_map<std::string, Clock::time_point> learnedAt_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, Clock::time_point> toldAt_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
