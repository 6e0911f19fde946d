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

class FetchTurnsTest : public InterceptorTest {
 protected:
  FetchTurnsTest() {
    UseTopics(R"({"name": "open", "seal": {"scope": "topic"}, "read": [{"any": true}]},
                 {"name": "private", "seal": {"scope": "topic"}, "read": []})");
    guard_ = std::make_unique<FetchGuard>(Context());
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
    const RequestResult asked = Request(*guard_, kFetchVersion, request);
    std::atomic<bool> wasBetween = false, isDone = false;
    std::function<void()> look = [&] {
      const uint64_t refused = metrics_.totals().refused;
      if (refused > 0 && refused < partitions) wasBetween = true;
      if (!isDone) loop_->Post(look);
    };
    loop_->Post(look);
    EXPECT_TRUE(Response(*guard_, kFetchVersion, response, asked.verdict.state.get()).rewritten());
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

// Once a second at most, but of many topics and by many patterns.
TEST_F(FetchTurnsTest, BetweenTheTopicsThatASessionHas) {
  std::string patterns = R"({"name": "open", "read": []})";
  for (int i = 0; i < 20; ++i) patterns += StrCat(R"(, {"pattern": "p)", i, R"([a-z]*(x|y)+z[0-9]*q", "read": []})");
  UseTopics(patterns);
  std::vector<std::string> names;
  for (int i = 0; i < 20'000; ++i) names.push_back(StrCat("a-topic-that-nobody-protects-", i));
  FetchRequest request;
  for (const std::string& name : names) request.topics.emplace_back().topic = name;
  const size_t bytes = FetchPositions().MemoryFor(request, FetchSession::kMostBytes);
  FetchSession session(*shared_, budget_, connection_, -1, bytes);
  ASSERT_TRUE(session.Reserve(bytes));
  session.Apply(request);
  TopicLookup lookup(shared_->topicNames, connection_);
  const auto judge = [&]() -> io::Task<bool> {
    bool hadTurn = false;
    loop_->Post([&hadTurn] { hadTurn = true; });
    io::Turn turn(*loop_);
    auto judging = session.Judge(request, lookup, upstream_, turn, scratch_->searchPace);
    co_await std::move(judging);
    const bool wasBetween = hadTurn;
    co_await loop_->Sleep(std::chrono::milliseconds(10));
    co_return wasBetween&& hadTurn;
  };
  EXPECT_TRUE(Await(judge()));
  EXPECT_FALSE(session.NeedsGuard());
  UseTopics(patterns + R"(, {"name": "another", "read": []})");
  EXPECT_TRUE(session.NeedsGuard()) << "until all are looked at again, with the next request";
}

TEST_F(FetchTurnsTest, BetweenTopics) {
  constexpr size_t kTopics = 50'000;
  FetchResponse response;
  for (size_t i = 0; i < kTopics; ++i) {
    FetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topic = "private";
    AddPartitions(topic, 1, Bytes(records_).first(1));
  }
  EXPECT_TRUE(LetsOthersBetween(response, kTopics));
}

TEST_F(FetchTurnsTest, BetweenPartitionsThatAreDenied) {
  constexpr int32_t kPartitions = 300'000;
  FetchResponse response;
  response.responses.emplace_back().topic = "private";
  AddPartitions(response.responses.back(), kPartitions, Bytes(records_).first(1));
  EXPECT_TRUE(LetsOthersBetween(response, kPartitions));
}

TEST_F(FetchTurnsTest, BetweenPartitionsThatHoldNoWholeBatch) {
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
