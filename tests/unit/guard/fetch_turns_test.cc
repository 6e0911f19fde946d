// Fetches that name very much: others of the worker have their turn in between.
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "guard/apis/fetch_guard.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::FetchRequest;
using kafka::FetchResponse;

constexpr int16_t kVersion = 12;

class FetchTurnsTest : public InterceptorTest {
 protected:
  FetchTurnsTest() {
    UseTopics(R"({"name": "open", "seal": {"scope": "topic"}, "read": [{"any": true}]},
                 {"name": "private", "seal": {"scope": "topic"}, "read": []})");
    guard_ = std::make_unique<FetchGuard>(*shared_, *scratch_, *loop_, connection_, std::make_shared<ClientFacts>());
  }

  static void AddPartitions(FetchResponse::Topic& topic, int32_t count, Bytes records) {
    for (int32_t i = 0; i < count; ++i) {
      FetchResponse::Partition& partition = topic.partitions.emplace_back();
      partition.partitionIndex = i;
      partition.records = records;
    }
  }
  // Has the broker answer with partitions of which each is refused. Whether somebody else of the worker had a turn when
  // some of them were, and others were not yet.
  bool LetsOthersBetween(const FetchResponse& response, size_t partitions) {
    FetchRequest request;
    request.maxBytes = 1 << 20;
    request.topics.emplace_back().topic = "open";
    const RequestResult asked = Request(*guard_, kVersion, request);
    std::atomic<bool> wasBetween = false, isDone = false;
    std::function<void()> look = [&] {
      const uint64_t refused = metrics_.totals().refused;
      if (refused > 0 && refused < partitions) wasBetween = true;
      if (!isDone) loop_->Post(look);
    };
    loop_->Post(look);
    EXPECT_TRUE(Response(*guard_, kVersion, response, asked.verdict.state.get()).rewritten());
    isDone = true;
    std::promise<void> idle;
    loop_->Post([&] { idle.set_value(); });
    idle.get_future().get();
    EXPECT_EQ(metrics_.totals().refused, partitions);
    EXPECT_EQ(budget_.used(), 0u);
    return wasBetween;
  }

  std::unique_ptr<FetchGuard> guard_;
  const ByteBuffer records_ = Padded(ProducedBatch({Record("k", "v")}));
};

TEST_F(FetchTurnsTest, betweenTopics) {
  constexpr size_t kTopics = 50'000;
  FetchResponse response;
  for (size_t i = 0; i < kTopics; ++i) {
    FetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topic = "private";
    AddPartitions(topic, 1, Bytes(records_).first(1));
  }
  EXPECT_TRUE(LetsOthersBetween(response, kTopics));
}

TEST_F(FetchTurnsTest, betweenPartitionsThatAreDenied) {
  constexpr int32_t kPartitions = 300'000;
  FetchResponse response;
  response.responses.emplace_back().topic = "private";
  AddPartitions(response.responses.back(), kPartitions, Bytes(records_).first(1));
  EXPECT_TRUE(LetsOthersBetween(response, kPartitions));
}

TEST_F(FetchTurnsTest, betweenPartitionsThatHoldNoWholeBatch) {
  constexpr int32_t kPartitions = 20'000;
  ByteBuffer malformed = records_;
  malformed[16] = 77;  // a magic that there is not
  FetchResponse response;
  response.responses.emplace_back().topic = "open";
  AddPartitions(response.responses.back(), kPartitions, malformed);
  response.responses.emplace_back().topic = "free";  // has something, so that the answer is not held back
  AddPartitions(response.responses.back(), 1, records_);
  EXPECT_TRUE(LetsOthersBetween(response, kPartitions));
}

}  // namespace
}  // namespace kveil::guard
