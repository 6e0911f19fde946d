// How large a batch each topic accepts (`max.message.bytes`), as the broker said a while ago.
//
// As with the names of topics (topic_names.h), what a broker says counts only in the network namespace it was said in.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "proxy/interceptor.h"
#include "proxy/workload_shares.h"

namespace kveil::guard {

// All connections share it. Any thread may call. A topic is one of the cluster at the other end of `connection`.
class TopicLimits {
 public:
  using Clock = std::chrono::steady_clock;
  // A topic's limit unless somebody changed it (Kafka's default, 1 MiB and the batch prefix), in bytes.
  static constexpr size_t kDefault = 1'048'588;
  // An operator may change a topic's limit: it is asked for again after this long.
  static constexpr std::chrono::minutes kLifetime{1};
  // Of all namespaces. Each workload gets its share of them (proxy/workload_share.h). The limits of its further topics
  // are asked for with each request.
  static constexpr size_t kMostTopics = 100'000;

  explicit TopicLimits(size_t mostTopics = kMostTopics) : limits_(mostTopics, kKeptFor) {}

  struct Limit {
    size_t bytes = kDefault;
    // The broker said so. Otherwise it did not tell, and this is the default. Whether the broker accepts as much is
    // found out with each batch and not remembered, as a batch that is sent again must be cut in the same way.
    bool isCertain = false;
    size_t proven = 0;  // if it is not certain: the largest batch that the broker took
    Clock::time_point learned;
  };

  // Returns nullopt if the limit has to be asked for.
  std::optional<Limit> Find(const proxy::ConnectionInfo& connection, std::string_view topic, Clock::time_point now) {
    const MutexLock lock(mutex_);
    const Known* const found = limits_.Find(KeyOf(connection, topic), now);
    if (found == nullptr || now >= found->limit.learned + kLifetime) return std::nullopt;
    return found->limit;
  }

  void Learn(const proxy::ConnectionInfo& connection, std::string_view topic, size_t bytes, Clock::time_point now) {
    Change(connection, topic, now,
           [bytes, now](Limit& limit) { limit = {.bytes = bytes, .isCertain = true, .learned = now}; });
  }
  // The broker was asked and did not tell. What was known before still counts, or else the default.
  void Assume(const proxy::ConnectionInfo& connection, std::string_view topic, Clock::time_point now) {
    Change(connection, topic, now, [now](Limit& limit) { limit.learned = now; });
  }
  // The broker is being asked. Until it answers, what is known still counts.
  void Renew(const proxy::ConnectionInfo& connection, std::string_view topic, Clock::time_point now) {
    const MutexLock lock(mutex_);
    if (Known* const found = limits_.Find(KeyOf(connection, topic), now); found != nullptr) found->limit.learned = now;
  }
  // The broker took a batch of this many bytes.
  void Took(const proxy::ConnectionInfo& connection, std::string_view topic, size_t bytes, Clock::time_point now) {
    // This does not postpone the next question: the topic may have been unknown, or rights may have been missing.
    Change(connection, topic, now, [bytes](Limit& limit) { limit.proven = std::max(limit.proven, bytes); });
  }
  // The broker does not know the topic, or not yet.
  void Forget(const proxy::ConnectionInfo& connection, std::string_view topic) {
    const MutexLock lock(mutex_);
    limits_.Erase(KeyOf(connection, topic));
  }

 private:
  // How long a limit counts if the broker does not tell it any more.
  static constexpr std::chrono::hours kKeptFor{1};

  struct Key {
    uint64_t netnsCookie = 0;
    std::string cluster;
    std::string topic;

    friend bool operator==(const Key&, const Key&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.netnsCookie, key.cluster, key.topic);
    }
  };
  struct Known {
    Limit limit;
    proxy::WorkloadShares::Share share;
  };

  template <typename Edit>
  void Change(const proxy::ConnectionInfo& connection, std::string_view topic, Clock::time_point now, Edit edit) {
    const MutexLock lock(mutex_);
    const Key key = KeyOf(connection, topic);
    Known* known = limits_.FindAndRenew(key, now);
    if (known == nullptr) {
      proxy::WorkloadShares::Share share =
          shares_.TakeOf(limits_.capacity() - limits_.size(), connection.workload.share);
      if (share == nullptr) return;
      known = &limits_.Put(key, Known{Limit(), std::move(share)}, now);
    }
    edit(known->limit);
  }
  static Key KeyOf(const proxy::ConnectionInfo& connection, std::string_view topic) {
    return {connection.origin.netnsCookie, connection.cluster, std::string(topic)};
  }

  Mutex mutex_;
  ExpiringMap<Key, Known> limits_ ABSL_GUARDED_BY(mutex_);
  proxy::WorkloadShares shares_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
