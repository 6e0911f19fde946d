// What became of the batches that idempotent producers sent and the agent split.
//
// A batch is always cut in the same way. So when it comes again, the broker recognizes its parts by their first and
// last sequence numbers, but only among the producer's last five batches. There may be more than five parts. So the
// agent remembers which batches the broker took as a whole, and does not send these again. A producer has at most five
// batches in flight.
//
// Some producers reuse the sequence numbers of a failed batch for another batch. The broker has nothing of a batch that
// failed. But it may have a part of a split batch, and would take a part of the other batch for that one. Such a batch
// must not be sent.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "guard/state/producer_partition.h"
#include "proxy/workload_shares.h"

namespace kveil::guard {

// All connections share it, as a producer may come back on another one. Any thread may call.
class SplitMemory {
 public:
  using Clock = std::chrono::steady_clock;

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

  explicit SplitMemory(const ProducerMemoryLimits& limits = {})
      : producers_(limits.mostEntries, limits.lifetime), shares_(limits.mostOfAWorkload) {}

  // True nearly always. Then no batch needs to be looked up.
  bool empty() const { return size_.load(std::memory_order_acquire) == 0; }

  std::optional<Split> Find(const BatchId& batch, Clock::time_point now);
  // The batch's parts are about to be sent. Returns false if there is no room to remember it: then they may not be
  // sent.
  [[nodiscard]] bool Remember(const BatchId& batch, size_t partSize, Clock::time_point now);
  // The broker took all of it.
  void Taken(const BatchId& batch, int64_t baseOffset, Clock::time_point now);
  // The broker took none of it this time. If it was sent before, it stays remembered, as it may be in the log since
  // then.
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
