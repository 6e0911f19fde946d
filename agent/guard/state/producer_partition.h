// What is remembered of idempotent producers is remembered by this.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace kveil::guard {

// A producer's sequence of batches in one partition. The workload is part of it: producer ids are small numbers that
// anybody can make up, and one workload's must not concern another's.
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

struct ProducerMemoryLimits {
  // Longer than clients retry by default (delivery.timeout.ms: two minutes with Java, five with librdkafka).
  std::chrono::seconds lifetime = std::chrono::minutes(10);
  size_t mostEntries = 100'000;  // of all workloads
  size_t mostOfAWorkload = 10'000;
};

}  // namespace kveil::guard
