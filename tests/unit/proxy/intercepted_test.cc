// What interceptors change, answer, ask and close, and that the order of the answers holds through all of it.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

class InterceptedTest : public ConnectionTest {
 protected:
  InterceptedTest() { interceptor_ = Intercept({kWanted}); }

  void AnswerLocally() {
    interceptor_->onRequest = [](const RequestFrame& request, FrameOutput& output) {
      WriteResponse(output, request.header.correlationId, "local");
      return RequestVerdict::Answer();
    };
  }
  static std::string Wanted(int32_t id, std::string_view body = "body") { return RequestFrameOf(kWanted, id, body); }

  FakeInterceptor* interceptor_;
};

TEST_F(InterceptedTest, RequestsArriveWholeAndAreForwardedAsTheyCame) {
  std::vector<std::string> seen;
  interceptor_->onRequest = [&seen](const RequestFrame& request, FrameOutput&) {
    seen.push_back(StrCat(request.header.correlationId, " ", AsText(request.body)));
    return RequestVerdict::Forward();
  };
  Open();
  const std::string request = Wanted(7, "a body");
  for (size_t cut = 1; cut < request.size(); ++cut) {
    application_.Send(request.substr(0, cut));
    EXPECT_FALSE(cut == 15 && broker_.HasBytesWithin(50)) << "part of a wanted request was forwarded";
    application_.Send(request.substr(cut));
    EXPECT_EQ(broker_.Receive(request.size()), request);
    broker_.Send(ResponseFrameOf(7, "yes"));
    EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(7, "yes"));
  }
  Settle();
  EXPECT_EQ(seen, std::vector<std::string>(request.size() - 1, "7 a body"));
}

TEST_F(InterceptedTest, OthersHaveTheirTurnBetweenSmallResponses) {
  constexpr int32_t kResponses = 200;
  int seen = 0, seenAtOnce = 0, mostAtOnce = 0;
  interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Forward().WantResponse(); };
  interceptor_->onResponse = [&](const ResponseFrame&, RequestState*, FrameOutput&) {
    if (++seenAtOnce == 1) loop_->Post([&] { seenAtOnce = 0; });  // somebody else's work
    mostAtOnce = std::max(mostAtOnce, seenAtOnce);
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    while (std::chrono::steady_clock::now() < until) {
    }
    ++seen;
    return ResponseVerdict::Forward();
  };
  Open();
  std::string requests, responses;
  for (int32_t id = 0; id < kResponses; ++id) {
    requests += Wanted(id);
    responses += ResponseFrameOf(id, "yes");
  }
  application_.Send(requests);
  EXPECT_EQ(broker_.Receive(requests.size()), requests);
  broker_.Send(responses);
  EXPECT_EQ(application_.Receive(responses.size()), responses);
  Settle();
  EXPECT_EQ(seen, kResponses);
  EXPECT_LT(mostAtOnce, 20);
}

TEST_F(InterceptedTest, RequestsAndResponsesAreRewritten) {
  const std::string filler = Pattern(5000);
  interceptor_->onRequest = [&](const RequestFrame& request, FrameOutput& output) {
    ByteBuffer& long_ = output.arena.NewBuffer();
    long_.assign(filler.begin(), filler.end());
    output.writer.BeginFrame();
    output.writer.Append(request.frame.first(request.header.size));
    output.writer.Append(long_);
    output.writer.Copy(request.body);
    output.writer.FinishFrame();
    return RequestVerdict::Rewrite().WantResponse(
        std::make_unique<FakeInterceptor::Number>(request.header.correlationId * 10));
  };
  interceptor_->onResponse = [](const ResponseFrame& response, RequestState* state, FrameOutput& output) {
    EXPECT_EQ(response.apiKey, kWanted);
    EXPECT_EQ(response.version, 1);
    const int number = static_cast<FakeInterceptor::Number*>(state)->value;
    WriteResponse(output, response.correlationId, StrCat(AsText(response.body), " and ", number));
    return ResponseVerdict::Rewrite();
  };
  Open();
  std::string requests;
  std::string forwarded;
  for (int32_t id = 1; id <= 40; ++id) {
    requests += StrCat(Wanted(id), Other(id + 100));
    forwarded += StrCat(Wanted(id, filler + "body"), Other(id + 100));
  }
  application_.Send(requests);
  EXPECT_EQ(broker_.Receive(forwarded.size()), forwarded);
  std::string responses;
  std::string expected;
  for (int32_t id = 1; id <= 40; ++id) {
    responses += StrCat(ResponseFrameOf(id, "answer"), ResponseFrameOf(id + 100, "other"));
    expected += StrCat(ResponseFrameOf(id, StrCat("answer and ", id * 10)), ResponseFrameOf(id + 100, "other"));
  }
  broker_.Send(responses);
  EXPECT_EQ(application_.Receive(expected.size()), expected);
  Settle();
}

// Small requests that each become a long one: more than is sent at once.
TEST_F(InterceptedTest, RequestsMayGrowALot) {
  const std::string filler = Pattern(300'000);
  interceptor_->onRequest = [&](const RequestFrame& request, FrameOutput& output) {
    return RewriteBody(request, AsBytes(filler), output);
  };
  Open();
  std::string requests;
  for (int32_t id = 0; id < 50; ++id) requests += Wanted(id, "");
  application_.Send(requests);
  for (int32_t id = 0; id < 50; ++id) ASSERT_TRUE(broker_.ReceiveFrame() == Wanted(id, filler)) << id;
  Settle();
}

TEST_F(InterceptedTest, LocalAnswersWaitTheirTurn) {
  AnswerLocally();
  Open();
  application_.Send(StrCat(Other(1), Wanted(2), Wanted(3), Other(4), Wanted(5)));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(1));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(4));
  EXPECT_FALSE(application_.HasBytesWithin(50)) << "answered before the broker answered what came first";
  broker_.Send(ResponseFrameOf(1, "one"));
  for (const auto& [id, body] : std::vector<std::pair<int, const char*>>{{1, "one"}, {2, "local"}, {3, "local"}}) {
    EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(id, body));
  }
  EXPECT_FALSE(application_.HasBytesWithin(50));
  broker_.Send(ResponseFrameOf(4, "four"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(4, "four"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(5, "local"));
}

TEST_F(InterceptedTest, LocalAnswersComeAtOnceWhenNothingIsOwed) {
  AnswerLocally();
  Open();
  for (int32_t id = 0; id < 3; ++id) {
    application_.Send(Wanted(id));
    EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(id, "local"));
  }
  EXPECT_FALSE(broker_.HasBytesWithin(0));
}

// While a long relayed response is on its way, a local answer must not get into the middle of it.
TEST_F(InterceptedTest, LocalAnswersDoNotBreakIntoAResponse) {
  AnswerLocally();
  Open();
  application_.Send(Other(1));
  broker_.ReceiveFrame();
  const std::string response = ResponseFrameOf(1, Pattern(1000));
  broker_.Send(response.substr(0, 100));
  EXPECT_EQ(application_.Receive(100), response.substr(0, 100));
  application_.Send(Wanted(2));
  EXPECT_FALSE(application_.HasBytesWithin(50));
  broker_.Send(response.substr(100));
  EXPECT_EQ(application_.Receive(response.size() - 100), response.substr(100));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(2, "local"));
}

// Produce with acks=0 has no answer, so the next answer belongs to the next request.
TEST_F(InterceptedTest, RequestsWithoutAnAnswerTakeNoPlace) {
  interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Forward().NoResponse(); };
  Open();
  application_.Send(StrCat(Other(1), Wanted(2), Wanted(3), Other(4)));
  for (const std::string& request : {Other(1), Wanted(2), Wanted(3), Other(4)}) {
    EXPECT_EQ(broker_.ReceiveFrame(), request);
  }
  broker_.Send(StrCat(ResponseFrameOf(1, "one"), ResponseFrameOf(4, "four")));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(1, "one"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(4, "four"));
}

TEST_F(InterceptedTest, OwnQuestionsGoAheadOfTheRequestAndStayUnseen) {
  interceptor_->asks = true;
  Open();
  application_.Send(StrCat(Other(1), Wanted(2), Other(3)));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(1));
  const std::string question = broker_.ReceiveFrame();
  EXPECT_EQ(question.substr(4, 2), BigEndian(static_cast<int16_t>(ApiKey::kListOffsets), 2));
  EXPECT_LT(static_cast<int8_t>(question[8]), 0) << "a correlation id that an application could use";
  EXPECT_NE(question.find("a question"), std::string::npos);
  EXPECT_NE(question.find("whom it is for"), std::string::npos) << "the broker counts it for nobody";
  EXPECT_FALSE(broker_.HasBytesWithin(50)) << "the request overtook the question";
  broker_.Send(StrCat(ResponseFrameOf(1, "one"), Framed(StrCat(question.substr(8, 4), "an answer"))));
  EXPECT_EQ(broker_.ReceiveFrame(), Wanted(2));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(3));
  broker_.Send(StrCat(ResponseFrameOf(2, "two"), ResponseFrameOf(3, "three")));
  for (const auto& [id, body] : std::vector<std::pair<int, const char*>>{{1, "one"}, {2, "two"}, {3, "three"}}) {
    EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(id, body));
  }
  OnLoop([this](Connection&) { EXPECT_EQ(interceptor_->answers, (std::vector<std::string>{"an answer"})); });
}

TEST_F(InterceptedTest, OwnQuestionsFailWhenTheBrokerCloses) {
  interceptor_->asks = true;
  std::promise<std::string> heard;
  interceptor_->onRequest = [&](const RequestFrame&, FrameOutput&) {
    heard.set_value(interceptor_->answers.back());
    return RequestVerdict::Forward();
  };
  Open();
  application_.Send(Wanted(1));
  broker_.ReceiveFrame();
  broker_.Close();
  EXPECT_EQ(heard.get_future().get(), "no answer");
  application_.ReceiveRest();
  application_.Close();
  EXPECT_TRUE(HasEnded());
}

TEST_F(InterceptedTest, ABrokerThatClosesBeforeItAnswersAQuestionIsNotUnsupported) {
  interceptor_->asks = true;
  interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Close("no answer"); };
  Open();
  application_.Send(Wanted(1));
  broker_.ReceiveFrame();
  broker_.Close();
  application_.ReceiveRest();
  application_.Close();
  ASSERT_TRUE(HasEnded());
  EXPECT_EQ(Result(), "served");
}

// Who asks whether the application has gone, as the first of several questions is answered.
class WhileItAsksTest : public InterceptedTest {
 protected:
  bool WasGoneAfter(const std::function<void()>& whatHappens) {
    interceptor_->asks = true;
    std::promise<bool> gone;
    interceptor_->onRequest = [&](const RequestFrame&, FrameOutput&) {
      gone.set_value(interceptor_->applicationWasGone);
      return RequestVerdict::Close("enough");
    };
    Open();
    application_.Send(StrCat(Wanted(1), Other(2)));  // the second waits in the way of what ends it
    const std::string question = broker_.ReceiveFrame();
    whatHappens();
    broker_.Send(Framed(StrCat(question.substr(8, 4), "an answer")));
    return gone.get_future().get();
  }
};

TEST_F(WhileItAsksTest, AnApplicationThatIsThereIsNotGone) {
  EXPECT_FALSE(WasGoneAfter([] {}));
}
TEST_F(WhileItAsksTest, AnApplicationThatClosesIsGone) {
  EXPECT_TRUE(WasGoneAfter([this] { application_.Close(); }));
  broker_.Close();
  EXPECT_EQ(Result(), "served") << "it asked for nothing that is not supported";
}
TEST_F(WhileItAsksTest, AnApplicationThatResetsIsGone) {
  EXPECT_TRUE(WasGoneAfter([this] { application_.Reset(); }));
}
TEST_F(WhileItAsksTest, AnApplicationIsNotGoneWhenTheAgentDrains) {
  EXPECT_FALSE(WasGoneAfter([this] { OnLoop([](Connection& connection) { connection.Drain(); }); }));
}

TEST_F(InterceptedTest, ABrokerThatNeverAnswersAQuestionEndsTheConnection) {
  interceptor_->asks = true;
  Open();
  application_.Send(Wanted(1));
  broker_.ReceiveFrame();
  application_.Close();
  for (const int minutes : {0, 3}) {
    OnLoop([&](Connection& connection) {
      connection.Sweep(std::chrono::steady_clock::now() + std::chrono::minutes(minutes));
    });
  }
  EXPECT_TRUE(HasEnded());
}

TEST_F(InterceptedTest, ABrokerThatIsSlowToAnswerAQuestionIsNoStalledApplication) {
  interceptor_->asks = true;
  Open();
  application_.Send(Wanted(1));
  const std::string question = broker_.ReceiveFrame();
  OnLoop([&](Connection& connection) {
    connection.Sweep(std::chrono::steady_clock::now());
    EXPECT_EQ(connection.HoardsFor(std::chrono::steady_clock::now() + std::chrono::hours(1)).count(), 0);
  });
  broker_.Send(Framed(StrCat(question.substr(8, 4), "an answer")));
  EXPECT_EQ(broker_.ReceiveFrame(), Wanted(1));
}

// Each question sends what was collected; what that was written in is not kept for the whole of a read full of
// requests.
TEST_F(InterceptedTest, MemoryOfWhatWasSentWithQuestionsIsBounded) {
  constexpr int kRequests = 60;
  interceptor_->asks = true;
  std::vector<const uint8_t*> buffers;
  interceptor_->onRequest = [&](const RequestFrame& request, FrameOutput& output) {
    ByteBuffer& sealed = output.arena.NewBuffer();
    sealed.assign(1 << 20, 7);
    buffers.push_back(sealed.data());
    return RewriteBody(request, sealed, output);
  };
  Open();
  std::string all;
  for (int i = 0; i < kRequests; ++i) all += Wanted(i);
  application_.Send(all);
  for (int i = 0; i < kRequests; ++i) {
    const std::string question = broker_.ReceiveFrame();
    broker_.Send(Framed(StrCat(question.substr(8, 4), "an answer")));
    EXPECT_GT(broker_.ReceiveFrame().size(), 1u << 20);
    broker_.Send(ResponseFrameOf(i, "taken"));
    EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(i, "taken"));
  }
  OnLoop([&](Connection&) {
    std::sort(buffers.begin(), buffers.end());
    buffers.erase(std::unique(buffers.begin(), buffers.end()), buffers.end());
    EXPECT_LE(buffers.size(), 8u) << "of a mebibyte each";
  });
}

TEST_F(InterceptedTest, AResponseThatIsNotWantedAnyMoreIsRelayed) {
  interceptor_->onRequest = [](const RequestFrame& request, FrameOutput&) {
    const int wanted = request.header.correlationId == 1 ? 1 : -1;
    return RequestVerdict::Forward().WantResponse(std::make_unique<FakeInterceptor::Number>(wanted));
  };
  std::vector<int32_t> seen;
  interceptor_->onResponse = [&](const ResponseFrame& response, RequestState*, FrameOutput&) {
    seen.push_back(response.correlationId);
    return ResponseVerdict::Forward();
  };
  limits_.responseFrame = 1000;  // which counts for responses that are held whole
  Open();
  for (const int32_t id : {1, 2}) {
    application_.Send(Wanted(id));
    broker_.ReceiveFrame();
    const std::string response = ResponseFrameOf(id, Pattern(id == 1 ? 100 : 100'000));
    broker_.Send(response);
    EXPECT_TRUE(application_.Receive(response.size()) == response);
  }
  Settle();
  EXPECT_EQ(seen, std::vector<int32_t>{1});
}

TEST_F(InterceptedTest, LongFramesTakeFromTheBudgetAndGiveItBack) {
  interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Forward().WantResponse(); };
  receiveBufferSize_ = 64 << 10;
  size_t used = 0;
  interceptor_->onResponse = [&](const ResponseFrame&, RequestState*, FrameOutput&) {
    used = budget_->used();
    return ResponseVerdict::Forward();
  };
  Open();
  for (int32_t id = 0; id < 3; ++id) {
    const std::string request = Wanted(id, Pattern(500'000));
    application_.Send(request);
    EXPECT_TRUE(broker_.Receive(request.size()) == request);
    const std::string response = ResponseFrameOf(id, Pattern(800'000));
    broker_.Send(response);
    EXPECT_TRUE(application_.Receive(response.size()) == response);
    Settle();
    EXPECT_EQ(used, 800'008u);
    ExpectRelayed(100 + id);
    OnLoop([this](Connection&) { EXPECT_EQ(budget_->used(), 0u); });
  }
}

TEST_F(InterceptedTest, LongFramesAreFollowedByShortOnesInTheSameSend) {
  receiveBufferSize_ = 64 << 10;
  Open();
  const std::string all =
      StrCat(Wanted(1), Wanted(2, Pattern(300'000)), Wanted(3), Wanted(4, Pattern(70'000)), Other(5), Wanted(6));
  application_.Send(all);
  EXPECT_TRUE(broker_.Receive(all.size()) == all);
}

TEST_F(InterceptedTest, ResponsesBeyondTheLimitEndTheConnection) {
  interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Forward().WantResponse(); };
  limits_.responseFrame = 1000;
  Open();
  application_.Send(Wanted(1));
  broker_.ReceiveFrame();
  broker_.Send(ResponseFrameOf(1, Pattern(2000)));
  application_.HowItEnded();
  EXPECT_TRUE(HasEnded());
}

TEST_F(InterceptedTest, RequestsThatAreRefusedCloseTheConnectionBehindWhatCameBeforeThem) {
  interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Close("no such thing"); };
  Open();
  application_.Send(StrCat(Other(1), Wanted(2), Other(3)));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(1));
  EXPECT_FALSE(broker_.HasBytesWithin(50)) << "what was refused, or came after it, has reached the broker";
  broker_.Send(ResponseFrameOf(1, "one"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(1, "one"));
  EXPECT_EQ(broker_.HowItEnded(), "in order");
  broker_.Close();
  EXPECT_TRUE(HasEnded());
  EXPECT_EQ(Result(), "unsupported");
}

// Answers of the agent's own wait for the broker's answers before them; an application that goes on asking must wait
// too.
TEST_F(InterceptedTest, LocalAnswersThatCannotLeaveStopTheApplication) {
  std::atomic<int> asked{0};
  interceptor_->onRequest = [&asked](const RequestFrame& request, FrameOutput& output) {
    ++asked;
    WriteResponse(output, request.header.correlationId, "local");
    return RequestVerdict::Answer();
  };
  Open();
  application_.Send(Other(1));
  EXPECT_EQ(broker_.ReceiveFrame(), Other(1));
  constexpr int kMany = 20'000;
  std::string flood;
  for (int i = 0; i < kMany; ++i) flood += Wanted(2 + i);
  std::thread sender([this, &flood] { application_.Send(flood); });
  int before = -1;
  while (before != asked.load()) {
    before = asked.load();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT_LT(before, kMany / 2) << "taken without an end in sight";
  broker_.Send(ResponseFrameOf(1, "one"));
  EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(1, "one"));
  for (int i = 0; i < kMany; ++i) EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(2 + i, "local"));
  sender.join();
  Settle();
}

TEST_F(InterceptedTest, ResponsesThatAreRefusedCloseTheConnection) {
  interceptor_->onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Forward().WantResponse(); };
  interceptor_->onResponse = [](const ResponseFrame&, RequestState*, FrameOutput&) {
    return ResponseVerdict::Close("no such thing");
  };
  Open();
  application_.Send(Wanted(1));
  broker_.ReceiveFrame();
  broker_.Send(ResponseFrameOf(1, "secret"));
  application_.HowItEnded();
  EXPECT_TRUE(HasEnded());
}

// The next request waits for the verdict; responses go on meanwhile.
TEST_F(InterceptedTest, ResponsesComeWhileARequestWaitsForItsVerdict) {
  interceptor_->hold = true;
  Open();
  application_.Send(StrCat(Other(1), Other(2), Wanted(3)));
  // What stands before the held request in one read goes out with it at the latest; answer what has come.
  OnLoop([this](Connection&) { interceptor_->held.Set(); });
  for (const std::string& request : {Other(1), Other(2), Wanted(3)}) EXPECT_EQ(broker_.ReceiveFrame(), request);
  OnLoop([this](Connection&) { interceptor_->held.Reset(); });
  application_.Send(Wanted(4));
  broker_.Send(StrCat(ResponseFrameOf(1, "one"), ResponseFrameOf(2, "two"), ResponseFrameOf(3, "three")));
  for (const auto& [id, body] : std::vector<std::pair<int, const char*>>{{1, "one"}, {2, "two"}, {3, "three"}}) {
    EXPECT_EQ(application_.ReceiveFrame(), ResponseFrameOf(id, body));
  }
  EXPECT_FALSE(broker_.HasBytesWithin(50));
  OnLoop([this](Connection&) { interceptor_->held.Set(); });
  EXPECT_EQ(broker_.ReceiveFrame(), Wanted(4));
}

}  // namespace
}  // namespace kveil::proxy
