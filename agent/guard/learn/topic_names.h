// Topic ids and the names they stand for, learned from the messages that pass (KIP-516). Kafka never reuses an id for
// another topic, so an entry never goes stale. A broker that gives an id a second name is not honest: from then on the
// id has no name, so nothing goes out in the clear under a name that somebody made up.
//
// What a broker says counts only in the network namespace it was said in: a process that can create a namespace can
// take a broker's address there and answer as the cluster. So it deceives only itself.
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

// All connections share it. Any thread may call.
class TopicNames {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    // Of all namespaces. Each workload gets its share of them (proxy/workload_share.h). Beyond that its ids stay
    // unknown, and requests that name them are refused. No entry is evicted for another, because it could come back
    // under another name.
    size_t most = 400'000;
    // Since an id was last named or looked up. Clients ask for the names of what they use every five minutes
    // (metadata.max.age.ms); what is left is of namespaces that are gone.
    std::chrono::seconds lifetime = std::chrono::minutes(30);
  };

  TopicNames() : TopicNames(Options()) {}
  explicit TopicNames(const Options& options) : names_(options.most, options.lifetime) {}

  // The broker at the other end of `connection` has said that the topic has this name.
  void Learn(const kafka::TopicId& id, std::string_view name, const proxy::ConnectionInfo& connection,
             Clock::time_point now = Clock::now());
  std::optional<std::string> Find(const kafka::TopicId& id, const proxy::ConnectionInfo& connection,
                                  Clock::time_point now = Clock::now()) const;

  // An error for a minute after an id could not be learned because its workload has used up its share.
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
