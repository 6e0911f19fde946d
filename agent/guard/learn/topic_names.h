// Topic ids and the names they stand for, learned from what passes (KIP-516). An id is never used again for another
// topic, so an entry never goes stale, and whoever gives an id a second name is no honest broker: from then on the id
// has none, so that nothing goes out in the clear under a name that somebody made up.
//
// What a broker says is believed in the network namespace that it was said to, and nowhere else: a process that can
// make a namespace can give itself a broker's address in it and answer as the cluster. So it deceives only itself.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "kafka/topic_id.h"
#include "proxy/interceptor.h"
#include "proxy/workload_shares.h"

namespace kveil::guard {

// One for all connections of the agent. Any thread.
class TopicNames {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    // Of all namespaces. A workload gets its share of them (proxy/workload_share.h). Beyond it no more are learned:
    // their ids stay unknown, and what names them is refused. None is dropped for another, because one that comes back
    // might come back under another name.
    size_t most = 400'000;
    // Since an id was last named or asked for. Clients have what they use named again every five minutes
    // (metadata.max.age.ms); what is left goes with its namespace.
    std::chrono::seconds lifetime = std::chrono::minutes(30);
  };

  TopicNames() : TopicNames(Options()) {}
  explicit TopicNames(const Options& options) : names_(options.most, options.lifetime) {}

  // The broker at the other end of `connection` has said so.
  void Learn(const kafka::TopicId& id, std::string_view name, const proxy::ConnectionInfo& connection,
             Clock::time_point now = Clock::now());
  std::optional<std::string> Find(const kafka::TopicId& id, const proxy::ConnectionInfo& connection,
                                  Clock::time_point now = Clock::now()) const;

  // An error for a minute after an id could not be learned, as its workload has its share.
  absl::Status Health(Clock::time_point now = Clock::now()) const;

 private:
  struct Key {
    kafka::TopicId id;
    uint64_t netnsCookie = 0;
    std::string cluster;

    friend bool operator==(const Key&, const Key&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.id, key.netnsCookie, key.cluster);
    }
  };
  struct Named {
    std::string name;  // empty: it was given two
    proxy::WorkloadShares::Share share;
  };
  static Key KeyOf(const kafka::TopicId& id, const proxy::ConnectionInfo& connection) {
    return {id, connection.origin.netnsCookie, connection.cluster};
  }

  mutable Mutex mutex_;
  mutable ExpiringMap<Key, Named> names_ ABSL_GUARDED_BY(mutex_);
  proxy::WorkloadShares shares_ ABSL_GUARDED_BY(mutex_);
  std::optional<Clock::time_point> fullAt_ ABSL_GUARDED_BY(mutex_);
  std::string full_ ABSL_GUARDED_BY(mutex_);  // the workload that was last refused one, and its cluster
};

}  // namespace kveil::guard
