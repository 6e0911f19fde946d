// The runs of the load generator, against a broker that does as it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "load/client.h"
#include "load/many_connections.h"
#include "load/open_loop.h"
#include "load/round_trips.h"
#include "stub_broker.h"

namespace kveil::load {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

OpenLoopOptions Briefly(const StubBroker& broker) {
  return {.bootstrap = broker.address(), .topic = "t", .rate = 1000, .seconds = 0.3, .warmUp = 0, .connections = 2};
}

TEST(OpenLoopTest, CountsEveryRecordOnce) {
  const StubBroker broker;
  OpenLoopOptions options = Briefly(broker);
  options.warmUp = 0.1;
  const auto result = RunOpenLoop(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->produced.count(), 300u);
  EXPECT_EQ(result->errors.count, 0u);
}

// A record that could not be sent because the broker stood still is late all the same.
TEST(OpenLoopTest, CountsLatencyFromWhenARecordWasDue) {
  const StubBroker broker({.stallsAfter = 3, .stall = milliseconds(150)});
  const auto result = RunOpenLoop(Briefly(broker));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->produced.count(), 300u);
  // Half of the records were due during the stall: a tenth of all waited 120 ms and more for its end, a fifth 90 ms.
  EXPECT_GE(result->produced.max(), milliseconds(140));
  EXPECT_GE(result->produced.Quantile(0.91), milliseconds(110));
  EXPECT_GE(result->produced.Quantile(0.82), milliseconds(80));
}

TEST(OpenLoopTest, CountsTheBrokersErrors) {
  const StubBroker broker({.failsAfter = 3, .error = kafka::ErrorCode::kTopicAuthorizationFailed});
  const auto result = RunOpenLoop(Briefly(broker));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->errors.count, 0u);
  EXPECT_EQ(result->produced.count() + result->errors.count, 300u);
  EXPECT_THAT(result->errors.first, HasSubstr("TOPIC_AUTHORIZATION_FAILED"));
}

TEST(PingTest, MeasuresEachAnswer) {
  const StubBroker broker({.stallsAfter = 5, .stall = milliseconds(50)});
  const auto result = RunPings({.bootstrap = broker.address(), .topic = "t", .count = 10, .warmUp = 0});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->histogram.count(), 10u);
  EXPECT_GE(result->histogram.max(), milliseconds(50));
  EXPECT_EQ(result->errors.count, 0u);
}

TEST(PingTest, CountsTheBrokersErrors) {
  const StubBroker broker({.failsAfter = 4, .error = kafka::ErrorCode::kMessageTooLarge});
  const auto result = RunPings({.bootstrap = broker.address(), .topic = "t", .count = 10, .warmUp = 0});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->errors.count, 7u);  // the first three were fine, and one before them that prepared the topic
  EXPECT_THAT(result->errors.first, HasSubstr("MESSAGE_TOO_LARGE"));
}

TEST(FirstAnswerTest, IsMeasured) {
  const StubBroker broker;
  const auto first = MeasureFirstAnswer(broker.address());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_GT(first->connected.count(), 0);
  EXPECT_GE(first->answered, first->connected);
}

ManyConnectionsOptions Few(const StubBroker& broker) {
  return {.bootstrap = broker.address(),
          .topic = "t",
          .open = 60,
          .active = 6,
          .partitions = 2,
          .seconds = 0.1,
          .warmUp = 0};
}

TEST(ManyConnectionsTest, ProducesOnTheActiveOnes) {
  const StubBroker broker;
  ManyConnectionsOptions options = Few(broker);
  options.seconds = 0.3;
  const auto result = RunManyConnections(options);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->batches, 0u);
  EXPECT_EQ(result->latency.count(), result->batches);
  EXPECT_EQ(result->errors.count, 0u) << result->errors.first;
}

TEST(ManyConnectionsTest, CountsConnectionsThatAreClosed) {
  const StubBroker broker({.mostConnections = 50});
  const auto result = RunManyConnections(Few(broker));
  ASSERT_TRUE(result.ok()) << result.status();
  // That of the client that prepared the topic may still be counted among the 50.
  EXPECT_GE(result->errors.count, 10u);
  EXPECT_LE(result->errors.count, 12u);
}

TEST(ManyConnectionsTest, CountsTheBrokersErrors) {
  const StubBroker broker({.failsAfter = 10, .error = kafka::ErrorCode::kNotEnoughReplicas});
  const auto result = RunManyConnections(Few(broker));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->errors.count, 0u);
  EXPECT_THAT(result->errors.first, HasSubstr("NOT_ENOUGH_REPLICAS"));
}

TEST(ResolveTest, TakesNamesAndNumbers) {
  EXPECT_EQ(Resolve("127.0.0.1:9092")->Text(), "127.0.0.1:9092");
  EXPECT_EQ(Resolve("[::1]:9092")->Text(), "[::1]:9092");
  EXPECT_EQ(Resolve("localhost:9092")->port(), 9092);
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve("127.0.0.1").status()));
  EXPECT_TRUE(absl::IsNotFound(Resolve("127.0.0.1:kafka").status()));
}

}  // namespace
}  // namespace kveil::load
