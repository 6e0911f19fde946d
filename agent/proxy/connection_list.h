// The connections of the agent, as whoever asks sees them.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "proxy/connection_info.h"

namespace kveil::proxy {

// What is known of one connection. Texts are cut off at kLongestText bytes; those of the client may be anything.
struct ConnectionReport {
  static constexpr size_t kLongestText = 256;

  uint64_t traffic(bool recently) const { return recently ? recentBytes : requestBytes + responseBytes; }

  uint64_t id = 0;  // as in the log
  std::string workload, share, cluster;
  uint32_t uid = 0;
  std::string client, broker;  // addresses
  std::string clientTls;       // "none", "passed", or the version of TLS with the application
  std::string clientId, principal, certificate;
  std::chrono::milliseconds age{0};
  uint64_t requestBytes = 0;   // sent to the broker
  uint64_t responseBytes = 0;  // sent to the application
  uint64_t recentBytes = 0;    // in both directions, of about the last two seconds
  ConnectionTally::Records records;
};

// Which connections are asked for.
struct ConnectionQuery {
  std::string workload;   // a part of the workload's name or share; empty: all
  std::string cluster;    // its name; empty: all
  size_t most = 1000;     // of those with the most traffic
  bool recently = false;  // traffic of about the last two seconds, not of all time

  bool Fits(const ConnectionInfo& info) const {
    if (!cluster.empty() && info.cluster != cluster) return false;
    return workload.empty() || info.workload.name().find(workload) != std::string::npos ||
           info.workload.share.find(workload) != std::string::npos;
  }
};

struct ConnectionList {
  std::vector<ConnectionReport> connections;  // those with the most traffic first
  size_t total = 0;
  size_t fitting = 0;
  size_t silentWorkers = 0;  // that did not answer in time: theirs are missing
};

// The first kLongestText bytes, for ConnectionReport.
inline std::string CutOff(std::string_view text) { return std::string(text.substr(0, ConnectionReport::kLongestText)); }

// Those with the most traffic, in order, and no more than `most`. `Traffic` says how much one has.
template <typename T, typename Traffic>
void KeepBusiest(std::vector<T>& all, size_t most, Traffic traffic) {
  const auto isBusier = [&](const T& a, const T& b) { return traffic(a) > traffic(b); };
  const size_t kept = std::min(most, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(), isBusier);
  all.resize(kept);
}

// One question to all workers, and their answers. The workers share it with whoever asks, who may not wait for all.
class ConnectionListing {
 public:
  ConnectionListing(ConnectionQuery query, size_t workers) : query_(std::move(query)), missing_(workers) {}

  const ConnectionQuery& query() const { return query_; }
  // A worker's answer, once for each. Any thread.
  void Add(ConnectionList part);
  // What has come until then.
  ConnectionList Await(std::chrono::steady_clock::time_point deadline);

 private:
  const ConnectionQuery query_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  size_t missing_ ABSL_GUARDED_BY(mutex_);
  ConnectionList list_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::proxy
