// What the connections of all workers share, used by several threads at once. ThreadSanitizer watches these tests;
// without it they show only that nothing is lost or deadlocks.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "guard/learn/topic_limits.h"
#include "guard/learn/topic_names.h"
#include "guard/state/key_outages.h"
#include "guard/state/refusal_memory.h"
#include "guard/state/split_memory.h"
#include "guard/state/unselected_writes.h"
#include "guard/worker/needs.h"

namespace kveil::guard {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kThreads = 4;
constexpr int kRounds = 500;

// Calls `work` with the numbers of the rounds on each thread, all at the same time.
void OnThreads(const std::function<void(int thread, int round)>& work) {
  std::atomic<int> waiting{kThreads};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      waiting.fetch_sub(1);
      while (waiting.load() > 0) std::this_thread::yield();
      for (int round = 0; round < kRounds; ++round) work(thread, round);
    });
  }
  for (std::thread& each : threads) each.join();
}

proxy::ConnectionInfo ConnectionOf(int thread) {
  proxy::ConnectionInfo connection;
  connection.cluster = "main";
  connection.origin.netnsCookie = 1;
  connection.workload.share = "/workload" + std::to_string(thread % 2);
  return connection;
}

ProducerPartition ProducerOf(int thread, int round) {
  ProducerPartition key;
  key.producerId = round % 7;
  key.producerEpoch = 0;
  key.workload = "/workload" + std::to_string(thread % 2);
  key.cluster = "main";
  key.topic = "clicks";
  return key;
}

std::string TopicOf(int round) { return "topic" + std::to_string(round % 50); }

TEST(SharedByThreadsTest, TopicNamesKeepOneNamePerId) {
  TopicNames names;
  OnThreads([&](int thread, int round) {
    const proxy::ConnectionInfo connection = ConnectionOf(thread);
    kafka::TopicId id{};
    id.bytes[0] = static_cast<uint8_t>(1 + round % 50);
    names.Learn(id, TopicOf(round), connection);
    EXPECT_EQ(names.Find(id, connection), TopicOf(round));
    EXPECT_TRUE(names.Health().ok());
  });
}

TEST(SharedByThreadsTest, TopicLimitsKeepWhatWasLearned) {
  TopicLimits limits;
  const Clock::time_point now = Clock::now();
  OnThreads([&](int thread, int round) {
    const proxy::ConnectionInfo connection = ConnectionOf(thread);
    limits.Learn(connection, TopicOf(round), 1000, now);
    limits.Took(connection, TopicOf(round), 10, now);
    const std::optional<TopicLimits::Limit> found = limits.Find(connection, TopicOf(round), now);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->bytes, 1000u);
  });
}

TEST(SharedByThreadsTest, RefusalsAreRememberedUntilTheBatchComesAgain) {
  RefusalMemory memory;
  const Clock::time_point now = Clock::now();
  OnThreads([&](int thread, int round) {
    ProducerPartition key = ProducerOf(thread, round);
    key.partition = thread;
    ASSERT_TRUE(memory.Remember(key, round, kafka::ErrorCode::kNotEnoughReplicas, now));
    EXPECT_FALSE(memory.empty());
    EXPECT_EQ(memory.Check(key, round + 1, now), kafka::ErrorCode::kNotEnoughReplicas);
    EXPECT_EQ(memory.Check(key, round, now), std::nullopt);
  });
  EXPECT_TRUE(memory.empty());
}

TEST(SharedByThreadsTest, SplitBatchesAreRememberedUntilTheyAreForgotten) {
  SplitMemory memory;
  const Clock::time_point now = Clock::now();
  OnThreads([&](int thread, int round) {
    SplitMemory::BatchId batch{.producer = ProducerOf(thread, round), .baseSequence = round, .records = 1, .crc = 5};
    batch.producer.partition = thread;
    ASSERT_TRUE(memory.Remember(batch, 100, now));
    EXPECT_TRUE(memory.Find(batch, now).has_value());
    memory.Forget(batch, now);
  });
  EXPECT_TRUE(memory.empty());
}

TEST(SharedByThreadsTest, KeyOutagesBeginAndEnd) {
  KeyOutages outages;
  const Clock::time_point now = Clock::now();
  OnThreads([&](int thread, int round) {
    const std::string topic = TopicOf(round) + std::to_string(thread);
    Needs missing;
    missing.keys.scopes.emplace_back(keys::Scope::kTopic, "main", topic);
    outages.Began({"main", topic}, std::move(missing), now);
    EXPECT_TRUE(outages.any());
    EXPECT_TRUE(outages.Find({"main", topic}, now).has_value());
    outages.Ended({"main", topic});
  });
  EXPECT_FALSE(outages.any());
}

TEST(SharedByThreadsTest, UnselectedWritesAreNotedOncePerTopic) {
  UnselectedWrites writes;
  const Clock::time_point now = Clock::now();
  OnThreads([&](int thread, int round) {
    const std::string workload = "/workload" + std::to_string(thread % 2);
    writes.NoteRead(workload, now);
    EXPECT_TRUE(writes.NoteWrite(workload, TopicOf(round), now));
  });
  EXPECT_EQ(writes.report().topics.size(), 50u);
}

}  // namespace
}  // namespace kveil::guard
