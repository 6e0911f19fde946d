// What the interceptors of all connections share.
#pragma once

#include <chrono>
#include <cstddef>

#include "guard/broker_directory.h"
#include "guard/refusal_memory.h"
#include "guard/topic_names.h"
#include "observe/metrics.h"
#include "policy/policy_store.h"

namespace kveil::guard {

struct GuardLimits {
  size_t batchSize = 64 << 20;                  // bytes of one record batch after decompression
  std::chrono::milliseconds keyTimeout{5'000};  // how long a frame waits for keys before it is answered with an error
};

struct SharedState {
  SharedState(const policy::PolicyStore& policies, observe::Metrics& metrics, BrokerDirectory& brokers,
              GuardLimits limits)
      : policies(policies), metrics(metrics), brokers(brokers), limits(limits) {}

  const policy::PolicyStore& policies;
  observe::Metrics& metrics;
  BrokerDirectory& brokers;
  GuardLimits limits;
  TopicNames topicNames;
  RefusalMemory refusals;
};

}  // namespace kveil::guard
