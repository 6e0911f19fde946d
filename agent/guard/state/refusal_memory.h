// Keeps an idempotent producer's batches in order after one of them was refused by the agent.
//
// The broker takes any first sequence from a producer that it does not know. So when the agent refuses a batch and lets
// the next one pass, the retry of the first comes out of order and is lost. Therefore, after a refusal, every later
// batch of the same producer, epoch and partition is refused until the refused one comes again. Earlier ones may pass:
// a broker that changes its mind about a partition refuses several, and the producer begins again with the first.
//
// Forgetting a refusal would lose records. So when there is no room for another one, the connection has to be closed,
// which keeps the order as well.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "guard/state/producer_partition.h"
#include "kafka/error_code.h"
#include "proxy/workload_shares.h"

namespace kveil::guard {

// All connections share it, as a producer may come back on another one. Any thread may call.
class RefusalMemory {
 public:
  using Clock = std::chrono::steady_clock;

  // A refused batch is waited for as long as an entry lives.
  explicit RefusalMemory(const ProducerMemoryLimits& limits = {})
      : refused_(limits.mostEntries, limits.lifetime), shares_(limits.mostOfAWorkload) {}

  // True nearly always. Then no batch needs to be checked.
  bool empty() const { return size_.load(std::memory_order_acquire) == 0; }

  // Returns the code to refuse a batch with this first sequence number with, or nullopt if it may pass. The refused
  // batch itself may always pass, and is then forgotten.
  std::optional<kafka::ErrorCode> Check(const ProducerPartition& key, int32_t baseSequence, Clock::time_point now);

  // A batch was refused, and later ones are to be refused with this code. Of several refused batches of a key, the
  // first in sequence is waited for. Returns false if there is no room to remember it: then nothing that follows on the
  // connection may pass.
  [[nodiscard]] bool Remember(const ProducerPartition& key, int32_t baseSequence, kafka::ErrorCode code,
                              Clock::time_point now);

 private:
  struct Refused {
    int32_t baseSequence = 0;
    kafka::ErrorCode code = kafka::ErrorCode::kNone;
    proxy::WorkloadShares::Share share;
  };

  std::atomic<size_t> size_{0};
  Mutex mutex_;
  ExpiringMap<ProducerPartition, Refused> refused_ ABSL_GUARDED_BY(mutex_);
  proxy::WorkloadShares shares_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::guard
