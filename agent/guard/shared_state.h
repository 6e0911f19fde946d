// What the interceptors of all connections share.
#pragma once

#include <chrono>
#include <cstddef>

#include "guard/broker_directory.h"
#include "guard/key_outages.h"
#include "guard/refusal_memory.h"
#include "guard/split_memory.h"
#include "guard/topic_limits.h"
#include "guard/topic_names.h"
#include "observe/metrics.h"
#include "policy/policy_store.h"

namespace kveil::guard {

struct GuardLimits {
  size_t batchSize = 64 << 20;  // bytes of one record batch after decompression
  // Bytes opened of one response, beyond which the rest is left for the reader's next fetch.
  size_t openedResponse = 128 << 20;
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
  TopicLimits topicLimits;
  RefusalMemory refusals;
  SplitMemory splits;
  KeyOutages keyOutages;
};

}  // namespace kveil::guard
