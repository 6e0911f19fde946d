// What a connection may make the agent remember: an application whose requests are not answered is not read for long.
#include <gtest/gtest.h>

#include <thread>

#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

class OwedTest : public ConnectionTest {
 protected:
  static std::string Requests(int32_t count, ApiKey apiKey = kOther, std::string_view body = "") {
    std::string requests;
    for (int32_t id = 0; id < count; ++id) requests += RequestFrameOf(apiKey, id, body);
    return requests;
  }

  // A broker that reads whatever comes and answers nothing; returns how many requests it got until no more came.
  size_t ReadUntilItStops(size_t requestSize) {
    size_t bytes = 0;
    while (broker_.HasBytesWithin(300)) {
      char part[65536];
      const ssize_t got = ::recv(broker_.fd(), part, sizeof(part), 0);
      if (got <= 0) break;
      bytes += static_cast<size_t>(got);
    }
    return bytes / requestSize;
  }
  size_t BudgetInUse() {
    size_t used = 0;
    OnLoop([&](Connection&) { used = budget_->used(); });
    return used;
  }
  void Sweep(std::chrono::milliseconds later) {
    OnLoop([later](Connection& connection) { connection.Sweep(std::chrono::steady_clock::now() + later); });
  }
};

TEST_F(OwedTest, AnApplicationThatIsNotAnsweredIsNotReadAndGoesOnWhenItIs) {
  Open();
  constexpr int32_t kRequests = 400'000;
  const std::string requests = Requests(kRequests);
  const size_t each = requests.size() / kRequests;
  std::thread sending([&] { application_.Send(requests); });
  size_t asked = ReadUntilItStops(each);
  EXPECT_GT(asked, 1000u);
  EXPECT_LE(asked, 4096u) << "the agent remembers every request that it lets through";
  EXPECT_LE(BudgetInUse(), OwedMemory::kMost);
  EXPECT_EQ(metrics_.totals().connectionsHeldBack, 1u);

  std::thread receiving([&] {
    for (int32_t id = 0; id < kRequests; ++id) {
      if (application_.ReceiveFrame() == ResponseFrameOf(id, "")) continue;
      ADD_FAILURE() << "at " << id;
      break;
    }
  });
  for (size_t answered = 0; answered < kRequests;) {
    std::string answers;
    for (; answered < asked; ++answered) answers += ResponseFrameOf(static_cast<int32_t>(answered), "");
    broker_.Send(answers);
    if (asked < kRequests) asked += broker_.Receive(std::min<size_t>(kRequests - asked, 100) * each).size() / each;
  }
  sending.join();
  receiving.join();
  Settle();
  EXPECT_EQ(metrics_.totals().connectionsHeldBack, 0u);
  EXPECT_EQ(BudgetInUse(), 0u);
}

TEST_F(OwedTest, AConnectionThatStaysAtItsBoundEndsByTheStallTimeout) {
  Open();
  const std::string requests = Requests(100'000);
  std::thread sending([&] { application_.SendUntilItStops(requests); });
  ReadUntilItStops(requests.size() / 100'000);
  sending.join();
  Sweep(std::chrono::milliseconds(0));
  Sweep(limits_.stallTimeout / 2);
  EXPECT_FALSE(HasEnded(0));
  Sweep(limits_.stallTimeout + std::chrono::seconds(1));
  EXPECT_EQ(Result(), "stalled");
  EXPECT_EQ(metrics_.totals().connectionsHeldBack, 0u);
}

TEST_F(OwedTest, AConnectionAtItsBoundEndsWithItsApplication) {
  Open();
  const std::string requests = Requests(20'000);
  std::thread sending([&] { application_.SendUntilItStops(requests); });
  ReadUntilItStops(requests.size() / 20'000);
  sending.join();
  application_.Reset();
  Sweep(std::chrono::milliseconds(0));
  EXPECT_TRUE(HasEnded());
}

TEST_F(OwedTest, FewAnswersWaitForNoTime) {
  Open();
  application_.Send(Requests(5));
  broker_.Receive(Requests(5).size());
  Sweep(std::chrono::milliseconds(0));
  Sweep(limits_.stallTimeout + std::chrono::seconds(1));
  EXPECT_FALSE(HasEnded(100)) << "a broker may take its time";
}

struct Large : RequestState {
  size_t bytes() const override { return 1 << 20; }
};

TEST_F(OwedTest, WhatInterceptorsRememberCounts) {
  Intercept({kWanted})->onRequest = [](const RequestFrame&, FrameOutput&) {
    return RequestVerdict::Forward().WantResponse(std::make_unique<Large>());
  };
  Open();
  const std::string requests = Requests(100, kWanted);
  application_.Send(requests);
  EXPECT_EQ(ReadUntilItStops(requests.size() / 100), 4u);
  EXPECT_GE(BudgetInUse(), 4u << 20);
  broker_.Send(ResponseFrameOf(0, ""));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(0, ""));
  EXPECT_EQ(ReadUntilItStops(requests.size() / 100), 1u);
}

TEST_F(OwedTest, WhatTheAgentAnswersItselfCounts) {
  Intercept({kWanted})->onRequest = [](const RequestFrame& request, FrameOutput& output) {
    WriteResponse(output, request.header.correlationId, std::string(100'000, 'a'));
    return RequestVerdict::Answer();
  };
  Open();
  application_.Send(RequestFrameOf(kOther, -1, "unanswered"));
  application_.Send(Requests(1000, kWanted));
  EXPECT_EQ(broker_.ReceiveFrame(), RequestFrameOf(kOther, -1, "unanswered"));
  size_t held = 0;
  for (int i = 0; i < 100 && metrics_.totals().connectionsHeldBack == 0; ++i) ::usleep(10'000);
  held = BudgetInUse();
  EXPECT_GE(held, 4u << 20);
  EXPECT_LE(held, 5u << 20);
  broker_.Send(ResponseFrameOf(-1, ""));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(-1, ""));
  for (int32_t id = 0; id < 1000; ++id) ASSERT_EQ(application_.ReceiveFrame().size(), 100'008u) << id;
}

TEST_F(OwedTest, TakesFromTheBudgetOfAllAndWaitsWhereThatIsUsedUp) {
  frameMemory_ = 256 << 10;
  Open();
  OnLoop([this](Connection&) { ASSERT_TRUE(budget_->TryAcquire(200 << 10)); });
  const std::string requests = Requests(4000);
  application_.Send(requests);
  const size_t asked = ReadUntilItStops(requests.size() / 4000);
  EXPECT_GT(asked, 50u) << "a little is everybody's";
  EXPECT_LT(asked, 500u);
  OnLoop([this](Connection&) { budget_->Release(200 << 10); });
  Sweep(std::chrono::milliseconds(0));
  EXPECT_GT(ReadUntilItStops(requests.size() / 4000), 1000u);
}

TEST_F(OwedTest, AnAnswerToTheAgentsQuestionThatNoBrokerGivesEndsTheConnection) {
  Intercept({kWanted})->asks = true;
  Open();
  application_.Send(RequestFrameOf(kWanted, 1, "request"));
  broker_.ReceiveFrame();
  broker_.Send(StrCat(BigEndian(20 << 20, 4), BigEndian(-1, 4)));
  EXPECT_TRUE(HasEnded());
}

TEST_F(OwedTest, TheAnswerToTheAgentsQuestionIsNotKept) {
  FakeInterceptor* const interceptor = Intercept({kWanted});
  interceptor->asks = true;
  Open();
  application_.Send(RequestFrameOf(kWanted, 1, "request"));
  broker_.ReceiveFrame();
  broker_.Send(ResponseFrameOf(-1, Pattern(8 << 20)));
  EXPECT_EQ(broker_.ReceiveFrame(), RequestFrameOf(kWanted, 1, "request"));
  EXPECT_EQ(BudgetInUse(), 0u);
}

}  // namespace
}  // namespace kveil::proxy
