// What the agent remembers of fetches: within the share of their workload. Whoever says all in each request loses
// nothing for want of room, and whoever does not is told to.
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "guard/apis/fetch_guard.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::ErrorCode;
using kafka::FetchRequest;
using kafka::FetchResponse;
using Kept = proxy::MemoryBudget::Kept;

constexpr int32_t kMany = 2000;  // partitions: more than are remembered for nothing

class FetchRoomTest : public InterceptorTest {
 protected:
  FetchRoomTest() {
    UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}]})");
    guard_ = GuardOf(connection_);
    others_.workload.unit = "other.service";
    others_.workload.share = "/system.slice/other.service";
    shared_->limits.roomTimeout = std::chrono::milliseconds(150);
  }
  ~FetchRoomTest() override {
    budget_.ReleaseKept(ours(), taken_, Kept::kUntilForgotten);
    guard_.reset();
    EXPECT_EQ(budget_.used(), 0u);
  }

  std::unique_ptr<FetchGuard> GuardOf(const proxy::ConnectionInfo& connection) {
    return std::make_unique<FetchGuard>(ContextOf(connection));
  }
  std::string ours() const { return connection_.workload.share; }
  // As by very many sessions of this workload.
  void TakeAllRoom() {
    constexpr size_t kStep = 16 << 10;
    while (budget_.TryKeep(ours(), kStep, Kept::kUntilForgotten)) taken_ += kStep;
  }

  static FetchRequest Asking(int32_t epoch, int32_t partitions, int64_t offset = 0, std::string_view topic = "clicks") {
    FetchRequest request;
    request.maxBytes = 1 << 20;
    request.sessionEpoch = epoch;
    request.sessionId = epoch > 0 ? 77 : 0;
    if (partitions == 0) return request;
    FetchRequest::Topic& asked = request.topics.emplace_back();
    asked.topic = topic;
    for (int32_t i = 0; i < partitions; ++i) {
      FetchRequest::Partition& partition = asked.partitions.emplace_back();
      partition.partition = i;
      partition.fetchOffset = offset;
      partition.partitionMaxBytes = 1 << 20;
    }
    return request;
  }
  // The session epoch that reaches the broker.
  int32_t EpochSent(const RequestResult& asked, int32_t epoch) {
    return asked.rewritten() ? WrittenRequest<FetchRequest>(asked.written, kFetchVersion).sessionEpoch : epoch;
  }
  // The broker's answer to the first request of a session.
  static FetchResponse Begun() {
    FetchResponse response;
    response.sessionId = 77;
    return response;
  }
  // Of three records the last two are erased and the first lies before the offset asked for, 101.
  void ExpectThatTheOffsetIsKnown(const RequestResult& asked) {
    const ByteBuffer sealed = SealedAt100({"bert", "anna", "anna"});
    Erase("anna");
    FetchResponse response;
    FetchResponse::Topic& topic = response.responses.emplace_back();
    topic.topic = "clicks";
    topic.partitions.emplace_back().records = sealed;
    const ResponseResult answer = Response(*guard_, kFetchVersion, response, asked.verdict.state.get());
    ASSERT_TRUE(answer.rewritten());
    const auto got = WrittenResponse<FetchResponse>(answer.written, kFetchVersion);
    EXPECT_TRUE(Read(*got.responses.at(0).partitions.at(0).records).header.isControl());
  }
  ByteBuffer SealedAt100(const std::vector<std::string>& users) {
    TestBatch batch;
    batch.baseOffset = 100;
    std::vector<TestRecord> records;
    for (const std::string& user : users) records.push_back(ClickOf(user));
    return Sealed(std::move(records), batch);
  }

  proxy::ConnectionInfo others_;
  std::unique_ptr<FetchGuard> guard_;
  size_t taken_ = 0;
};

// What a connection has the agent remember is bounded, and ends with it.
TEST_F(FetchRoomTest, SessionsThatTheBrokerDoesNotKnowTakeNoMemory) {
  FetchRequest request;
  request.maxBytes = 1 << 20;
  request.sessionId = 4711;
  request.sessionEpoch = 5;
  FetchRequest::Topic& topic = request.topics.emplace_back();
  topic.topic = "clicks";
  for (int32_t round = 0; round < 12; ++round) {
    topic.partitions.clear();
    for (int32_t i = 0; i < 20'000; ++i) topic.partitions.emplace_back().partition = round * 20'000 + i;
    RequestResult asked = Request(*guard_, kFetchVersion, request);
    EXPECT_TRUE(asked.wantsResponse());
    EXPECT_LT(budget_.used(), 1u << 20);
  }
}

TEST_F(FetchRoomTest, SessionsAreForgottenWhenTheBrokerHasNone) {
  FetchRequest request;
  request.maxBytes = 1 << 20;
  request.sessionEpoch = 0;
  FetchRequest::Topic& topic = request.topics.emplace_back();
  topic.topic = "free";
  for (int32_t i = 0; i < 20'000; ++i) topic.partitions.emplace_back().partition = i;
  FetchResponse response;
  {
    RequestResult asked = Request(*guard_, kFetchVersion, request);
    EXPECT_GT(budget_.used(), 500'000u);
    EXPECT_TRUE(Response(*guard_, kFetchVersion, response, asked.verdict.state.get()).forwarded());
  }
  EXPECT_EQ(budget_.used(), 0u) << "the broker gave it no session";
  response.sessionId = 77;
  {
    RequestResult asked = Request(*guard_, kFetchVersion, request);
    EXPECT_TRUE(Response(*guard_, kFetchVersion, response, asked.verdict.state.get()).forwarded());
  }
  EXPECT_GT(budget_.used(), 500'000u);
  request.sessionEpoch = -1;
  request.topics.clear();
  EXPECT_TRUE(Request(*guard_, kFetchVersion, request).forwarded());
  EXPECT_EQ(budget_.used(), 0u) << "the client has closed it";
}

TEST_F(FetchRoomTest, OneWorkloadsSessionsLeaveRoomForThoseOfOthers) {
  TakeAllRoom();
  const FetchRequest request = Asking(0, kMany);
  EXPECT_EQ(EpochSent(Request(*guard_, kFetchVersion, request), 0), -1);
  EXPECT_FALSE(shared_->FetchSessionsHealth().ok());
  const std::unique_ptr<FetchGuard> others = GuardOf(others_);
  EXPECT_TRUE(Request(*others, kFetchVersion, request).forwarded()) << "as a session";
}

TEST_F(FetchRoomTest, ASessionThatThereIsNoRoomForIsNoneAndItsOffsetsAreKnown) {
  TakeAllRoom();
  RequestResult asked = Request(*guard_, kFetchVersion, Asking(0, kMany, 101));
  ASSERT_TRUE(asked.rewritten());
  const auto forwarded = WrittenRequest<FetchRequest>(asked.written, kFetchVersion);
  EXPECT_EQ(forwarded.sessionEpoch, -1) << "the broker makes no session, and its client goes on without";
  ASSERT_EQ(forwarded.topics.size(), 1u);
  EXPECT_EQ(forwarded.topics[0].partitions.size(), size_t{kMany});
  EXPECT_GT(budget_.used(), taken_) << "it counts until it is answered";
  ExpectThatTheOffsetIsKnown(asked);
  asked.verdict.state.reset();
  EXPECT_EQ(budget_.used(), taken_);
}

TEST_F(FetchRoomTest, AFetchWithoutASessionKeepsItsOffsets) {
  TakeAllRoom();
  const RequestResult asked = Request(*guard_, kFetchVersion, Asking(-1, kMany, 101));
  ASSERT_TRUE(asked.forwarded());
  ExpectThatTheOffsetIsKnown(asked);
}

// As when the broker has given its place to another session: clients then begin a new one.
TEST_F(FetchRoomTest, ASessionThatOutgrowsTheRoomEndsAtBothSides) {
  RequestResult begun = Request(*guard_, kFetchVersion, Asking(0, 3));
  EXPECT_TRUE(begun.forwarded());
  EXPECT_TRUE(Response(*guard_, kFetchVersion, Begun(), begun.verdict.state.get()).forwarded());
  TakeAllRoom();
  FetchRequest grown = Asking(1, kMany);
  grown.forgottenTopicsData.emplace_back().topic = "other";
  RequestResult asked = Request(*guard_, kFetchVersion, grown);
  ASSERT_TRUE(asked.rewritten());
  EXPECT_TRUE(asked.wantsResponse());
  const auto forwarded = WrittenRequest<FetchRequest>(asked.written, kFetchVersion);
  EXPECT_EQ(forwarded.sessionId, 77);
  EXPECT_EQ(forwarded.sessionEpoch, -1) << "the broker forgets it";
  EXPECT_TRUE(forwarded.topics.empty());
  EXPECT_TRUE(forwarded.forgottenTopicsData.empty());
  const ResponseResult answer = Response(*guard_, kFetchVersion, FetchResponse(), asked.verdict.state.get());
  ASSERT_TRUE(answer.rewritten());
  EXPECT_EQ(WrittenResponse<FetchResponse>(answer.written, kFetchVersion).errorCode,
            ErrorCode::kFetchSessionIdNotFound);

  // What the client does next, and goes on doing.
  for (int i = 0; i < 3; ++i) {
    const RequestResult full = Request(*guard_, kFetchVersion, Asking(0, kMany));
    ASSERT_TRUE(full.rewritten());
    EXPECT_EQ(EpochSent(full, 0), -1);
    EXPECT_EQ(WrittenRequest<FetchRequest>(full.written, kFetchVersion).topics.size(), 1u);
    EXPECT_TRUE(Response(*guard_, kFetchVersion, FetchResponse(), full.verdict.state.get()).forwarded());
  }
}

TEST_F(FetchRoomTest, ASessionThatForgetsPartitionsGivesTheirRoomBack) {
  RequestResult begun = Request(*guard_, kFetchVersion, Asking(0, kMany));
  EXPECT_TRUE(Response(*guard_, kFetchVersion, Begun(), begun.verdict.state.get()).forwarded());
  EXPECT_GT(budget_.used(), 0u);
  FetchRequest forget = Asking(1, 0);
  FetchRequest::ForgottenTopic& topic = forget.forgottenTopicsData.emplace_back();
  topic.topic = "clicks";
  for (int32_t i = 1; i < kMany; ++i) topic.partitions.push_back(i);
  EXPECT_TRUE(Request(*guard_, kFetchVersion, forget).forwarded());
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(FetchRoomTest, OfFetchesWithoutRoomOneOfAWorkloadIsUnderWayAndTheNextWaits) {
  TakeAllRoom();
  const std::unique_ptr<FetchGuard> second = GuardOf(connection_);
  const FetchRequest request = Asking(-1, kMany);
  RequestResult first = Request(*guard_, kFetchVersion, request);
  EXPECT_TRUE(first.forwarded());
  EXPECT_TRUE(Request(*second, kFetchVersion, request).closed()) << "nothing was answered in time";
  EXPECT_TRUE(Request(*GuardOf(others_), kFetchVersion, request).forwarded()) << "that is none of the others' business";

  shared_->limits.roomTimeout = std::chrono::hours(1);
  std::thread answering([&] {
    ::usleep(100'000);
    loop_->Post([&] { first.verdict.state.reset(); });
  });
  EXPECT_TRUE(Request(*second, kFetchVersion, request).forwarded());
  answering.join();
  EXPECT_TRUE(Request(*guard_, kFetchVersion, request).forwarded()) << "that one had its answer";

  first = Request(*guard_, kFetchVersion, request);
  upstream_.isApplicationGone = true;
  EXPECT_TRUE(Request(*second, kFetchVersion, request).closed());
}

// It looks for room again and again, but not at all that it is to hold.
TEST_F(FetchRoomTest, AFetchThatWaitsForRoomDoesNothingMeanwhile) {
  TakeAllRoom();
  shared_->limits.roomTimeout = std::chrono::hours(1);
  const RequestResult first = Request(*guard_, kFetchVersion, Asking(-1, kMany));
  FetchRequest request = Asking(-1, 0);
  std::vector<std::string> names;
  for (int i = 0; i < 20'000; ++i) names.push_back(StrCat("a-topic-of-many-", i));
  for (const std::string& name : names) request.topics.emplace_back().topic = name;
  const std::unique_ptr<FetchGuard> second = GuardOf(connection_);
  const auto memory = [&] {
    std::promise<size_t> used;
    loop_->Post([&] { used.set_value(budget_.used()); });
    return used.get_future().get();
  };
  const size_t before = memory();
  std::thread waiting([&] { EXPECT_TRUE(Request(*second, kFetchVersion, request).closed()); });
  const auto workOfLoop = [&] {
    std::promise<std::chrono::nanoseconds> used;
    loop_->Post([&] {
      timespec time{};
      ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
      used.set_value(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
    });
    return used.get_future().get();
  };
  while (memory() == before) ::usleep(1000);  // until the request is read
  std::chrono::nanoseconds least = std::chrono::hours(1);
  for (int window = 0; window < 20 && least > std::chrono::milliseconds(2); ++window) {
    const auto start = workOfLoop();
    ::usleep(200'000);
    least = std::min(least, workOfLoop() - start);
  }
  EXPECT_LT(least, std::chrono::milliseconds(2));
  loop_->Post([&] { upstream_.isApplicationGone = true; });
  waiting.join();
}

TEST_F(FetchRoomTest, OfMorePartitionsThanAnyBrokerHasNothingIsRemembered) {
  const RequestResult asked = Request(*guard_, kFetchVersion, Asking(-1, 300'000, 0, "free"));
  ASSERT_TRUE(asked.forwarded());
  EXPECT_TRUE(asked.wantsResponse()) << "it is guarded all the same";
  EXPECT_EQ(budget_.used(), 0u);
  EXPECT_LT(asked.verdict.state->bytes(), 1024u);
}

TEST_F(FetchRoomTest, TopicsCountWithTheirNames) {
  std::vector<std::string> names;
  for (char letter = 'a'; letter <= 'z'; ++letter) names.emplace_back(249, letter);
  FetchRequest request = Asking(-1, 0);
  for (const std::string& name : names) request.topics.emplace_back().topic = name;
  const RequestResult asked = Request(*guard_, kFetchVersion, request);
  EXPECT_GT(asked.verdict.state->bytes() + budget_.used(), names.size() * (249 + 249));
}

TEST_F(FetchRoomTest, WhatIsNotChargedCountsAsOwedWithTheRequestThatBroughtIt) {
  const auto owed = [&](const FetchRequest& request) {
    return Request(*guard_, kFetchVersion, request).verdict.state->bytes();
  };
  EXPECT_LT(owed(Asking(-1, 1)), 1024u);
  EXPECT_GT(owed(Asking(-1, 200)), 200u * 32);
  RequestResult begun = Request(*guard_, kFetchVersion, Asking(0, 200));
  EXPECT_GT(begun.verdict.state->bytes(), 200u * 32);
  EXPECT_TRUE(Response(*guard_, kFetchVersion, Begun(), begun.verdict.state.get()).forwarded());
  EXPECT_LT(owed(Asking(1, 0)), 1024u) << "counted twice";
}

}  // namespace
}  // namespace kveil::guard
