// The ends that the agent itself brings about: a drain, and the timeouts that Sweep watches.
#include <gtest/gtest.h>

#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

class DrainingTest : public ConnectionTest {
 protected:
  void Drain() {
    OnLoop([](Connection& connection) { connection.Drain(); });
  }
};

TEST_F(DrainingTest, EndsAnIdleConnectionAtOnce) {
  Open();
  ExpectRelayed(1);
  Drain();
  EXPECT_EQ(broker_.HowItEnded(), "in order");
  broker_.Close();
  EXPECT_EQ(application_.HowItEnded(), "in order");
  application_.Close();
  EXPECT_EQ(Result(), "served");
}

TEST_F(DrainingTest, DeliversTheAnswersThatAreOwed) {
  Open();
  application_.Send(Other(1) + Other(2));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(1));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(2));
  Drain();
  EXPECT_FALSE(broker_.HasBytesWithin(50)) << "the broker was told of the end before it answered";
  broker_.Send(ResponseFrameOf(1, "one"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(1, "one"));
  EXPECT_FALSE(broker_.HasBytesWithin(50));
  broker_.Send(ResponseFrameOf(2, "two"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(2, "two"));
  EXPECT_EQ(broker_.HowItEnded(), "in order");
  broker_.Close();
  EXPECT_EQ(application_.HowItEnded(), "in order");
  EXPECT_TRUE(HasEnded());
}

TEST_F(DrainingTest, TwiceIsDrainingOnce) {
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  Drain();
  Drain();
  broker_.Send(ResponseFrameOf(1, "one"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(1, "one"));
  broker_.Close();
  EXPECT_TRUE(HasEnded());
}

TEST_F(DrainingTest, DeliversTheAgentsOwnAnswersToo) {
  FakeInterceptor* const interceptor = Intercept({kWanted});
  interceptor->onRequest = [](const RequestFrame& request, FrameOutput& output) {
    WriteResponse(output, request.header.correlationId, "local");
    return RequestVerdict::Answer();
  };
  Open();
  application_.Send(Other(1) + RequestFrameOf(kWanted, 2, "x"));
  broker_.ReceiveFrame();
  OnLoop([](Connection&) {});
  Drain();
  broker_.Send(ResponseFrameOf(1, "one"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(1, "one"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(2, "local"));
  EXPECT_EQ(broker_.HowItEnded(), "in order");
}

class SweptTest : public ConnectionTest {
 protected:
  SweptTest() {
    limits_.stallTimeout = std::chrono::seconds(20);
    limits_.halfCloseTimeout = std::chrono::seconds(10);
    limits_.idleTimeout = std::chrono::seconds(60);
  }
  // Lets the connection look at the clock that much later than now.
  void SweepAfter(std::chrono::seconds time) {
    OnLoop([this, time](Connection& connection) { connection.Sweep(now_ + time); });
  }
  // A turn or two of the loop pass before what a peer has already received is counted as sent.
  void Settle() {
    for (int turn = 0; turn < 5; ++turn) SweepAfter(std::chrono::seconds(0));
  }

  const std::chrono::steady_clock::time_point now_ = std::chrono::steady_clock::now();
};

TEST_F(SweptTest, EndsAnIdleConnectionAfterALongTimeOnly) {
  Open();
  ExpectRelayed(1);
  Settle();
  SweepAfter(std::chrono::seconds(59));
  EXPECT_FALSE(HasEnded(50));
  SweepAfter(std::chrono::seconds(61));
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "served");
}

TEST_F(SweptTest, KeepsAConnectionThatStillRelays) {
  Open();
  for (int32_t round = 1; round < 6; ++round) {
    ExpectRelayed(round);
    for (int turn = 0; turn < 5; ++turn) SweepAfter(std::chrono::seconds(50 * round));
  }
  EXPECT_FALSE(HasEnded(50));
}

TEST_F(SweptTest, EndsARequestThatStandsStill) {
  Open();
  application_.Send(Other(1, "the body").substr(0, 15));
  EXPECT_EQ(broker_.Receive(15).size(), 15u);
  Settle();
  SweepAfter(std::chrono::seconds(19));
  EXPECT_FALSE(HasEnded(50));
  SweepAfter(std::chrono::seconds(21));
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "stalled");
}

TEST_F(SweptTest, EndsAResponseThatStandsStill) {
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  broker_.Send(ResponseFrameOf(1, "the answer").substr(0, 10));
  EXPECT_EQ(application_.Receive(10).size(), 10u);
  Settle();
  SweepAfter(std::chrono::seconds(21));
  EXPECT_EQ(application_.HowItEnded(), "by a reset");
  EXPECT_EQ(Result(), "stalled");
}

// What counts is that something moves, not that a message ends.
TEST_F(SweptTest, KeepsAWantedRequestThatArrivesSlowly) {
  Intercept({kWanted});
  Open();
  const std::string request = RequestFrameOf(kWanted, 1, "arrives in pieces");
  for (size_t at = 0; at < request.size(); ++at) {
    application_.Send(request.substr(at, 1));
    for (int turn = 0; turn < 5; ++turn) SweepAfter(std::chrono::seconds(15 * at));
  }
  EXPECT_EQ(broker_.ReceiveFrame(), request);
}

TEST_F(SweptTest, KeepsAWantedResponseThatIsReadSlowly) {
  smallSocketBuffers_ = true;
  Intercept({kWanted})->onRequest = [](const RequestFrame&, FrameOutput&) {
    return RequestVerdict::Forward().WantResponse(std::make_unique<FakeInterceptor::Number>(1));
  };
  Open();
  application_.Send(RequestFrameOf(kWanted, 1, "all of it"));
  broker_.ReceiveFrame();
  constexpr size_t kPiece = 1 << 20;
  const std::string response = ResponseFrameOf(1, Pattern(8 * kPiece));
  broker_.Send(response);
  std::string got;
  for (int piece = 1; piece <= 8; ++piece) {
    got += application_.Receive(kPiece);
    for (int turn = 0; turn < 5; ++turn) SweepAfter(std::chrono::seconds(15 * piece));
  }
  got += application_.Receive(response.size() - got.size());
  EXPECT_TRUE(got == response);
  EXPECT_FALSE(HasEnded(50));
}

// A consumer waits for records for as long as it likes: the broker owes an answer, and that is no stall.
TEST_F(SweptTest, LetsAnAnswerTakeItsTime) {
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  Settle();
  SweepAfter(std::chrono::seconds(50));
  EXPECT_FALSE(HasEnded(50));
}

TEST_F(SweptTest, EndsWhatOnlyTheBrokerKeepsOpen) {
  Open();
  ExpectRelayed(1);
  application_.EndSending();
  EXPECT_EQ(broker_.HowItEnded(), "in order");
  Settle();
  SweepAfter(std::chrono::seconds(9));
  EXPECT_FALSE(HasEnded(50));
  SweepAfter(std::chrono::seconds(11));
  EXPECT_EQ(Result(), "stalled");
}

TEST_F(SweptTest, EndsWhatOnlyTheApplicationKeepsOpen) {
  Open();
  ExpectRelayed(1);
  broker_.EndSending();
  EXPECT_EQ(application_.HowItEnded(), "in order");
  Settle();
  SweepAfter(std::chrono::seconds(11));
  EXPECT_EQ(Result(), "stalled");
}

}  // namespace
}  // namespace kveil::proxy
