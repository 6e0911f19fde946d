// Work that is thrown away: it takes no memory that is not charged, keeps none, and does not hold up the others.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <random>
#include <thread>

#include "guard/apis/fetch_guard.h"
#include "produce_fixture.h"

namespace kveil::guard {
namespace {

using kafka::Codec;
using kafka::FetchRequest;
using kafka::FetchResponse;
using Clock = std::chrono::steady_clock;

constexpr size_t kMiB = 1 << 20;

class WorkBoundsTest : public ProduceGuardTest {
 protected:
  WorkBoundsTest() {
    for (const std::string_view topic : {"clicks", "orders"}) {
      shared_->topicLimits.Learn(connection_, topic, 1'048'588, TopicLimits::Clock::now());
    }
  }

  // A few kilobytes that decompress to most of a megabyte, in records that are good but for the last.
  static ByteBuffer Bomb(bool isBad, int64_t baseOffset = 0, Codec codec = Codec::kZstd) {
    std::vector<TestRecord> records;
    const std::string value = StrCat(R"({"user":"anna","text":")", std::string(1000, 'x'), "\"}");
    for (int i = 0; i < 800; ++i) records.push_back(Record("k", value));
    if (isBad) records.push_back(Record("k", "{}"));
    TestBatch batch;
    batch.baseOffset = baseOffset;
    return ProducedBatch(std::move(records), codec, batch);
  }
  // Forty partitions of a topic that are asked for, and answered with the same records, which outlive it.
  struct Forty {
    explicit Forty(const ByteBuffer& records) {
      FetchRequest::Topic& asked = request.topics.emplace_back();
      asked.topic = "clicks";
      FetchResponse::Topic& answered = response.responses.emplace_back();
      answered.topic = "clicks";
      for (int32_t i = 0; i < 40; ++i) {
        FetchRequest::Partition& partition = asked.partitions.emplace_back();
        partition.partition = i;
        partition.partitionMaxBytes = 1 << 20;
        answered.partitions.emplace_back().partitionIndex = i;
        answered.partitions.back().records = records;
      }
    }
    FetchRequest request;
    FetchResponse response;
  };
  // How many of them the reader gets, of a response that is rewritten.
  ptrdiff_t PartitionsGiven(FetchGuard& guard, const Forty& forty) {
    const RequestResult fetch = Request(guard, 12, forty.request);
    const ResponseResult ended = Response(guard, 12, forty.response, fetch.verdict.state.get());
    EXPECT_TRUE(ended.rewritten());
    if (!ended.rewritten()) return -1;
    const auto written = WrittenResponse<FetchResponse>(ended.written, 12);
    const auto& partitions = written.responses.at(0).partitions;
    return std::count_if(partitions.begin(), partitions.end(), [](const auto& p) { return !p.records->empty(); });
  }
  size_t ScratchBytes() const {
    return scratch_->records.capacity() + scratch_->value.capacity() + scratch_->compressed.capacity() +
           scratch_->writer.capacity();
  }
  // How long another task of the loop had to wait for its turn at most while `work` ran, and how long that took.
  struct Times {
    Clock::duration wait{};
    Clock::duration all{};
  };
  template <typename Work>
  Times TimesOf(Work work) {
    bool over = false;
    Times times;
    std::promise<void> ended;
    loop_->Post([&] { loop_->Spawn(Watch(over, times.wait, ended)); });
    const auto begun = Clock::now();
    work();
    times.all = Clock::now() - begun;
    loop_->Post([&over] { over = true; });
    ended.get_future().get();
    return times;
  }

  ProduceRequest RefusedRequest(const ByteBuffer& batch, int32_t partitions) {
    ProduceRequest request;
    request.acks = -1;
    std::vector<std::pair<int32_t, Bytes>> records;
    for (int32_t i = 0; i < partitions; ++i) records.emplace_back(i, batch);
    request.topicData = {Topic("clicks", std::move(records))};
    return request;
  }

 private:
  io::Task<void> Watch(const bool& over, Clock::duration& longest, std::promise<void>& ended) {
    auto last = Clock::now();
    while (!over) {
      co_await io::Loop::YieldAwaiter(*loop_);
      const auto now = Clock::now();
      longest = std::max(longest, now - last);
      last = now;
    }
    ended.set_value();
  }
};

TEST_F(WorkBoundsTest, RefusedPartitionsUseOneBuffer) {
  const ByteBuffer bomb = Bomb(true);
  ASSERT_LT(bomb.size(), 32u << 10);
  Produce({Topic("clicks", {{0, Bomb(false)}})});  // has the keys fetched
  const size_t before = budget_.used();
  const RequestResult result = Request(*guard_, 9, RefusedRequest(bomb, 40));
  ASSERT_TRUE(AllRefused(result, 9));
  EXPECT_EQ(result.arenaBytes, 0u);
  EXPECT_LT(ScratchBytes(), 12 * kMiB);
  EXPECT_EQ(budget_.used(), before);
}

TEST_F(WorkBoundsTest, WhatIsForwardedTakesNoMoreThanItIs) {
  for (const Codec codec : {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    const RequestResult result = Request(*guard_, 9, RefusedRequest(Bomb(false, 0, codec), 8));
    ASSERT_TRUE(result.rewritten());
    EXPECT_LE(result.arenaBytes, 4 * result.written.size()) << kafka::CodecName(codec);
  }
}

TEST_F(WorkBoundsTest, DecompressedPlaintextThatPassesIsNotKept) {
  FetchGuard guard(Context());
  const ByteBuffer plain = Bomb(false);
  const Forty forty(plain);
  const RequestResult fetch = Request(guard, 12, forty.request);
  const ResponseResult passed = Response(guard, 12, forty.response, fetch.verdict.state.get());
  EXPECT_TRUE(passed.forwarded());
  EXPECT_EQ(passed.arenaBytes, 0u);
  // What all of it comes to is bounded too; the rest is left for the next fetch.
  shared_->limits.workOfResponse = 10 * kMiB;
  const auto given = PartitionsGiven(guard, forty);
  EXPECT_GE(given, 11);
  EXPECT_LE(given, 14);
}

// Values that are opened only to see that the reader may not have them are work like those that it gets.
TEST_F(WorkBoundsTest, TheWorkOfAResponseIsBoundedThoughRulesDenyAllOfIt) {
  UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}},
                "read": [{"any": true, "where": {"value": {"pointer": "/user", "equals": "bert"}}}]})");
  const ByteBuffer sealed = Sealed(TaskToSeal(Bomb(false), "clicks"));
  ASSERT_LT(sealed.size(), 200u << 10);
  FetchGuard guard(Context());
  shared_->limits.workOfResponse = 10 * kMiB;
  const auto given = PartitionsGiven(guard, Forty(sealed));
  // Each is opened, and looked into once.
  EXPECT_GE(given, 6);
  EXPECT_LE(given, 8);
}

TEST_F(WorkBoundsTest, ALargeValueLeavesNothingBehind) {
  shared_->limits.keyTimeout = std::chrono::seconds(10);
  const ByteBuffer large = ProducedBatch({Record("k", std::string(20 * kMiB, 'x'))}, Codec::kGzip);
  ASSERT_TRUE(Request(*guard_, 9,
                      [&] {
                        ProduceRequest request = RefusedRequest(large, 1);
                        request.topicData[0].name = "orders";
                        return request;
                      }())
                  .rewritten());
  EXPECT_LT(ScratchBytes(), 4 * (8 * kMiB));
}

// All batches of a request together, whatever becomes of them, are no more than four of the largest.
TEST_F(WorkBoundsTest, TheWorkOfARequestIsBoundedThoughAllOfItIsRefused) {
  Produce({Topic("clicks", {{0, Bomb(false)}})});
  shared_->limits.batchSize = 2 * kMiB;
  const RequestResult result = Request(*guard_, 9, RefusedRequest(Bomb(true), 40));
  ASSERT_TRUE(AllRefused(result, 9));
  const ProduceResponse response = Refusals(result, 9);
  const auto& partitions = response.responses.at(0).partitionResponses;
  const auto looked = std::count_if(partitions.begin(), partitions.end(), [](const auto& partition) {
    return partition.errorMessage.value_or("").find("user") != std::string_view::npos;
  });
  EXPECT_LE(looked, 11) << "eight megabytes are what four batches may have";
}

TEST_F(WorkBoundsTest, OthersHaveTheirTurnBetweenTheBatchesOfARequest) {
  Produce({Topic("clicks", {{0, Bomb(false)}})});
  const ByteBuffer bomb = Bomb(true);
  const Times times = TimesOf([&] { Request(*guard_, 9, RefusedRequest(bomb, 150)); });
  EXPECT_LT(times.wait, times.all / 4) << times.wait.count() << " ns of " << times.all.count();
}

// Randomized: requests and responses of anybody's making, several at once, within a small share of memory.
TEST_F(WorkBoundsTest, HostileMessagesStayWithinTheirShareOfMemory) {
  std::mt19937 random(3);
  const ByteBuffer good = Bomb(false);
  const ByteBuffer bad = Bomb(true);
  const ByteBuffer plain =
      ProducedBatch({Record("k", StrCat(R"({"user":"anna","x":")", std::string(300'000, 'y'), "\"}"))});
  for (int round = 0; round < 20; ++round) {
    ProduceRequest request;
    request.acks = -1;
    std::vector<std::pair<int32_t, Bytes>> records;
    for (int32_t i = 0; i < 20; ++i) {
      const ByteBuffer* const kinds[] = {&good, &bad, &plain};
      records.emplace_back(i, *kinds[random() % 3]);
    }
    request.topicData = {Topic("clicks", std::move(records))};
    const RequestResult result = Request(*guard_, 9, request);
    EXPECT_LE(result.arenaBytes, 4 * result.written.size() + kMiB);
    EXPECT_EQ(budget_.used(), 0u);
    EXPECT_LT(ScratchBytes(), 4 * (8 * kMiB));
  }
}

// Somebody else has nearly all of it.
TEST_F(WorkBoundsTest, ARequestWaitsForMemoryBeforeItsWork) {
  Produce({Topic("clicks", {{0, good_}})});
  const size_t taken = budget_.limit() - 1000;
  ASSERT_TRUE(budget_.TryGrowOutput(0, taken));
  bool released = false;
  std::thread releasing([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    loop_->Post([&] {
      released = true;
      budget_.ReleaseOutput(taken);
    });
  });
  const RequestResult result = Request(*guard_, 9, RefusedRequest(Bomb(false), 1));
  EXPECT_TRUE(result.rewritten()) << result.verdict.reason;
  EXPECT_TRUE(released);
  releasing.join();
}

TEST_F(WorkBoundsTest, WhatGrowsBeyondTheMemoryThatIsThereIsToComeAgain) {
  const ByteBuffer batch = Bomb(false);
  Produce({Topic("clicks", {{0, batch}})});
  constexpr size_t kOfTheDecodedRequest = 4 << 10;
  const size_t taken = budget_.limit() - 20 * batch.size() - kOfTheDecodedRequest;
  ASSERT_TRUE(budget_.TryGrowOutput(0, taken));
  RequestResult result = Request(*guard_, 9, RefusedRequest(batch, 10));
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
  ASSERT_LT(forwarded.topicData.at(0).partitionData.size(), 10u);
  const ResponseResult answer = Response(*guard_, 9, Accepted(forwarded), result.verdict.state.get());
  const std::vector<std::string> lines = Lines(WrittenResponse<ProduceResponse>(answer.written, 9));
  ASSERT_EQ(lines.size(), 10u);
  EXPECT_EQ(lines.front(), "clicks/0 0 900");
  EXPECT_EQ(lines.back(), StrCat("clicks/9 ", static_cast<int>(ErrorCode::kNotEnoughReplicas), " -1"));
  budget_.ReleaseOutput(taken);
  EXPECT_EQ(budget_.used(), 0u);
}

}  // namespace
}  // namespace kveil::guard
