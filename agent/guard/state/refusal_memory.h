// Keeps an idempotent producer's batches in order after one of them was refused by the agent.
//
// The broker takes any first sequence from a producer that it does not know. So when the agent refuses a batch and lets
// the next one pass, the retry of the first comes out of order and is lost. Therefore, after a refusal, every later
// batch of the same producer, epoch and partition is refused until the refused one comes again. Earlier ones may pass:
// a broker that changes its mind about a partition refuses several, and the producer begins again with the first.
//
// A refusal that was forgotten would lose records, so none is: where there is no room for another, the connection has
// to be closed, which keeps the order as well.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "kafka/error_code.h"
#include "proxy/workload_shares.h"

namespace kveil::guard {

// A producer's sequence of batches. Its workload belongs to it: producer ids are small numbers that anybody can name,
// and what is remembered for the one must not concern the other.
struct ProducerPartition {
  int64_t producerId = -1;
  int16_t producerEpoch = -1;
  std::string workload;  // its share
  std::string cluster;
  std::string topic;
  int32_t partition = 0;

  friend bool operator==(const ProducerPartition&, const ProducerPartition&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const ProducerPartition& key) {
    return H::combine(std::move(state), key.producerId, key.producerEpoch, key.workload, key.cluster, key.topic,
                      key.partition);
  }
};

// One for all connections: a producer may come back on another. Any thread.
class RefusalMemory {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    // How long a refused batch is waited for; longer than clients try by default (Java 2 minutes, librdkafka 5).
    std::chrono::seconds lifetime = std::chrono::minutes(10);
    size_t mostProducers = 100'000;  // and partitions, of all workloads
    size_t mostOfAWorkload = 10'000;
  };

  RefusalMemory() : RefusalMemory(Options()) {}
  explicit RefusalMemory(const Options& options)
      : refused_(options.mostProducers, options.lifetime), shares_(options.mostOfAWorkload) {}

  // Whether anything is remembered at all: false nearly always, and then nothing else needs to be asked.
  bool empty() const { return size_.load(std::memory_order_acquire) == 0; }

  // The code that a batch with this first sequence has to be refused with; nullopt when it may pass. The refused batch
  // itself may always pass, and is forgotten.
  std::optional<kafka::ErrorCode> Check(const ProducerPartition& key, int32_t baseSequence, Clock::time_point now);

  // A batch was refused; later ones are to be refused with this code. Of several for the same key, the
  // first in sequence is the one that is waited for. False when there is no room for it: then nothing that follows on
  // the connection may pass.
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
