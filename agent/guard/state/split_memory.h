// What became of the batches that idempotent producers sent and the agent split.
//
// A batch is always cut alike, so the broker knows the parts of one that comes again by their first and last sequence
// numbers, but only among the last five of the producer. Of parts there may be more than five. So the agent remembers
// which of the producer's batches, of which at most five are in flight, the broker took as a whole: these need not be
// sent again.
//
// Some producers use the sequence numbers of a batch that failed for another one. Of a batch the broker then has
// nothing. Of a split one it may have a part, and would take one of the other for that: such a batch is not to be sent.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "guard/state/refusal_memory.h"
#include "proxy/workload_shares.h"

namespace kveil::guard {

// One for all connections: a producer may come back on another. Any thread.
class SplitMemory {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    // Longer than clients try again by default (delivery.timeout.ms, two minutes with Java, five with librdkafka).
    std::chrono::seconds lifetime = std::chrono::minutes(10);
    size_t mostProducers = 100'000;  // and partitions, of all workloads
    size_t mostOfAWorkload = 10'000;
  };
  struct BatchId {
    ProducerPartition producer;
    int32_t baseSequence = 0;
    int32_t records = 0;
    uint32_t crc = 0;  // as the producer sent it

    bool IsSameAs(const BatchId& other) const { return records == other.records && crc == other.crc; }
  };
  struct Split {
    bool isAnothers = false;  // it was another batch with this sequence number, and parts of it may be in the log
    bool isTaken = false;     // by the broker, all of it
    int64_t baseOffset = -1;  // then; -1 where it is not known
    size_t partSize = 0;      // what its parts were filled to: the topic's limit may have been raised since
  };

  SplitMemory() : SplitMemory(Options()) {}
  explicit SplitMemory(const Options& options)
      : producers_(options.mostProducers, options.lifetime), shares_(options.mostOfAWorkload) {}

  // Whether nothing is remembered: true nearly always, and then nothing needs to be asked.
  bool empty() const { return size_.load(std::memory_order_acquire) == 0; }

  std::optional<Split> Find(const BatchId& batch, Clock::time_point now);
  // Its parts are about to be sent. False when there is no room to remember it: then it may not be sent.
  [[nodiscard]] bool Remember(const BatchId& batch, size_t partSize, Clock::time_point now);
  // The broker took all of it.
  void Taken(const BatchId& batch, int64_t baseOffset, Clock::time_point now);
  // The broker took none of it this time. It stays remembered if it was sent before, and may be in the log from then.
  void Forget(const BatchId& batch, Clock::time_point now);

 private:
  // As many as a producer may have in flight (max.in.flight.requests.per.connection with idempotence).
  static constexpr size_t kMostOfAProducer = 5;

  struct Entry {
    BatchId id;
    Split split;
    bool wasSentBefore = false;
  };
  struct Producer {
    std::deque<Entry> batches;
    proxy::WorkloadShares::Share share;
  };

  Entry* FindSame(const BatchId& batch, Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::atomic<size_t> size_{0};
  Mutex mutex_;
  ExpiringMap<ProducerPartition, Producer> producers_ ABSL_GUARDED_BY(mutex_);
  proxy::WorkloadShares shares_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
