// What became of the batches that idempotent producers sent and the agent split.
//
// A producer whose answer was lost sends its batch again, and the broker knows it by its first and last sequence
// number, but only among the last five of the producer. Of parts there may be more than five. So the agent remembers
// the producer's batches, which are at most five in flight: how each was split, as a part that is cut otherwise is none
// that the broker knows; and whether all of it was taken, so that it need not be sent again.
//
// Some producers use the sequence numbers of a batch that failed for another one. Of a batch the broker then has
// nothing. Of a split one it may have a part, and would take one of the other for that: such a batch is not to be sent.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "guard/refusal_memory.h"

namespace kveil::guard {

// One for all connections: a producer may come back on another. Any thread.
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
    bool isAnothers = false;      // it was another batch with this sequence number, and parts of it may be in the log
    std::vector<int32_t> counts;  // records of each part
    bool isTaken = false;         // by the broker, all of it
    int64_t baseOffset = -1;      // then; -1 where it is not known
  };

  // Whether nothing is remembered: true nearly always, and then nothing needs to be asked.
  bool empty() const { return size_.load(std::memory_order_acquire) == 0; }

  std::optional<Split> Find(const BatchId& batch, Clock::time_point now) const;
  // Its parts are about to be sent.
  void Remember(const BatchId& batch, std::vector<int32_t> counts, Clock::time_point now);
  // The broker took all of it.
  void Taken(const BatchId& batch, int64_t baseOffset);
  // The broker took none of it.
  void Forget(const BatchId& batch);

 private:
  // As many as a producer may have in flight (max.in.flight.requests.per.connection with idempotence).
  static constexpr size_t kMostOfAProducer = 5;
  // Longer than clients try again by default (delivery.timeout.ms, two minutes with Java, five with librdkafka).
  static constexpr std::chrono::minutes kLifetime{10};
  static constexpr size_t kMostProducers = 100'000;

  struct Entry {
    BatchId id;
    Split split;
  };
  struct Producer {
    std::deque<Entry> batches;
    Clock::time_point expires;
  };

  std::atomic<size_t> size_{0};
  Entry* FindSame(const BatchId& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable std::mutex mutex_;
  absl::flat_hash_map<ProducerPartition, Producer> producers_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point nextSweep_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
