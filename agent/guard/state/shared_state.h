// What the guards of all connections share.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>

#include "absl/status/status.h"
#include "guard/learn/broker_directory.h"
#include "guard/learn/topic_limits.h"
#include "guard/learn/topic_names.h"
#include "guard/state/key_outages.h"
#include "guard/state/refusal_memory.h"
#include "guard/state/split_memory.h"
#include "guard/state/unselected_writes.h"
#include "guard/worker/search_pace.h"
#include "observe/metrics.h"
#include "policy/policy_store.h"

namespace kveil::guard {

struct GuardLimits {
  size_t batchSize = 64 << 20;  // bytes of one record batch after decompression
  size_t batchUsers = 100'000;  // different users of one produced batch
  // Bytes of records that a fetch may ask for: the response has to fit into the memory that the agent may use.
  size_t fetchBytes = 120 << 20;
  // Bytes of decompressed batches that are processed for one response. The rest is left for the reader's next fetch.
  size_t workOfResponse = 128 << 20;
  std::chrono::milliseconds keyTimeout{5'000};  // how long a frame waits for keys before it is answered with an error
  // How long a fetch waits for other fetches of its workload, for room to remember what it asks for.
  std::chrono::milliseconds roomTimeout{5'000};
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
  UnselectedWrites unselectedWrites;

  // A refusal or a batch in parts could not be remembered.
  void NotRemembered() {
    metrics.ProducersNotRemembered(1);
    notRememberedAt_.store(Clock::now().time_since_epoch(), std::memory_order_relaxed);
  }
  // An error if that was within the last minute, for `kveil status`.
  absl::Status ProducersHealth() const {
    if (!WasInLastMinute(notRememberedAt_)) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "some workload has, or all have, more refused or split batches of idempotent producers under way than are "
        "remembered: its connections are closed, or its batches refused, until those have come again");
  }

  // A fetch session could not be kept: those of its workload use all its room.
  void FetchSessionNotKept() { notKeptAt_.store(Clock::now().time_since_epoch(), std::memory_order_relaxed); }
  absl::Status FetchSessionsHealth() const {
    if (!WasInLastMinute(notKeptAt_)) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "some workload has more fetch sessions, or larger ones, than are remembered: further consumers of it name all "
        "their partitions in every fetch");
  }

  // A workload's requests had to wait, as its names of topics take the patterns of the policies long.
  SearchPace::WaitedAt searchesWaitedAt{};
  absl::Status SearchesHealth() const {
    if (!WasInLastMinute(searchesWaitedAt)) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "some workload names so many topics that no \"name\" or \"prefix\" selects, or names that take the "
        "\"pattern\"s "
        "of the policies so long, that its requests wait");
  }

 private:
  using Clock = std::chrono::steady_clock;

  static bool WasInLastMinute(const std::atomic<Clock::duration>& at) {
    const Clock::time_point last(at.load(std::memory_order_relaxed));
    return last != Clock::time_point() && Clock::now() - last <= std::chrono::minutes(1);
  }

  std::atomic<Clock::duration> notRememberedAt_{};
  std::atomic<Clock::duration> notKeptAt_{};
};

}  // namespace kveil::guard
