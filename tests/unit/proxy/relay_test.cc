// What nobody wants goes through byte for byte, in order, whatever its size and however it is cut.
#include <gtest/gtest.h>

#include <thread>

#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

class RelayTest : public ConnectionTest {};

TEST_F(RelayTest, PassesRequestsAndResponsesByteForByte) {
  Open();
  int32_t correlationId = 0;
  for (const size_t size : {0, 1, 20, 1000, 70'000, 2'000'000}) ExpectRelayed(++correlationId, size);
  application_.Close();
  EXPECT_EQ(broker_.HowItEnded(), "in order");
  broker_.Close();
  EXPECT_EQ(Result(), "served");
}

TEST_F(RelayTest, TakesARequestCutAtAnyByte) {
  Open();
  const std::string request = RequestFrameOf(ApiKey::kListOffsets, 5, "the body");
  const std::string response = ResponseFrameOf(5, "the answer");
  for (size_t cut = 1; cut < request.size(); ++cut) {
    application_.Send(request.substr(0, cut));
    if (cut >= 12) {
      EXPECT_EQ(broker_.Receive(cut), request.substr(0, cut)) << "a relayed request is not held back";
    }
    application_.Send(request.substr(cut));
    const size_t had = cut >= 12 ? cut : 0;
    EXPECT_EQ(broker_.Receive(request.size() - had), request.substr(had));
    const size_t responseCut = std::min(cut, response.size() - 1);
    broker_.Send(response.substr(0, responseCut));
    broker_.Send(response.substr(responseCut));
    EXPECT_EQ(application_.Receive(response.size()), response);
  }
}

TEST_F(RelayTest, PassesManyPipelinedRequestsInOrder) {
  Open();
  std::string requests;
  std::string responses;
  for (int32_t id = 0; id < 3000; ++id) {
    requests += RequestFrameOf(ApiKey::kListOffsets, id, Pattern(static_cast<size_t>(id % 700), 1));
    responses += ResponseFrameOf(id, Pattern(static_cast<size_t>(id % 900), 2));
  }
  std::thread sending([&] { application_.Send(requests); });
  EXPECT_EQ(broker_.Receive(requests.size()), requests);
  sending.join();
  std::thread answering([&] { broker_.Send(responses); });
  EXPECT_EQ(application_.Receive(responses.size()), responses);
  answering.join();
}

TEST_F(RelayTest, PassesLongFramesWithoutHoldingThem) {
  frameMemory_ = 1;
  limits_.responseFrame = 1000;
  Open();
  const std::string request = RequestFrameOf(ApiKey::kListOffsets, 1, Pattern(20 << 20));
  std::thread sending([&] { application_.Send(request); });
  EXPECT_TRUE(broker_.Receive(request.size()) == request);
  sending.join();
  const std::string response = ResponseFrameOf(1, Pattern(20 << 20));
  std::thread answering([&] { broker_.Send(response); });
  EXPECT_TRUE(application_.Receive(response.size()) == response);
  answering.join();
  OnLoop([this](Connection&) { EXPECT_EQ(budget_->used(), 0u); });
}

TEST_F(RelayTest, CountsItsBytes) {
  Open();
  ExpectRelayed(1, 100);
  application_.Close();
  broker_.Close();
  ASSERT_TRUE(HasEnded());
  const std::string text = metrics_.Text();
  const auto request = RequestFrameOf(ApiKey::kListOffsets, 1, Pattern(100)).size();
  const auto response = ResponseFrameOf(1, Pattern(100)).size();
  for (const std::string& line : {StrCat("kveil_received_bytes_total{from=\"client\"} ", request, "\n"),
                                  StrCat("kveil_sent_bytes_total{to=\"broker\"} ", request, "\n"),
                                  StrCat("kveil_received_bytes_total{from=\"broker\"} ", response, "\n"),
                                  StrCat("kveil_sent_bytes_total{to=\"client\"} ", response, "\n")}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
}

TEST_F(RelayTest, GivesItsBuffersBackWhileNothingComes) {
  receiveBuffers_ = 1;
  Open();
  ExpectRelayed(1);
  ExpectRelayed(2, 3 << 20);
  // The response's buffer is given back a moment after its last byte has arrived.
  size_t inUse = 1;
  for (int turn = 0; inUse > 0 && turn < 1000; ++turn) {
    OnLoop([&](Connection&) { inUse = loop_->receiveBuffers().inUse(); });
  }
  EXPECT_EQ(inUse, 0u);
}

// A slow reader: what is on its way stays in two socket buffers a side and in the buffers of the pool.
class SlowReaderTest : public ConnectionTest {
 protected:
  SlowReaderTest() {
    smallSocketBuffers_ = true;
    receiveBuffers_ = 2;
  }
  static constexpr size_t kMuch = 64 << 20;
  static constexpr size_t kBound = 4 << 20;
};

TEST_F(SlowReaderTest, AtTheBrokerStopsTheApplication) {
  Open();
  const std::string request = RequestFrameOf(ApiKey::kListOffsets, 1, Pattern(kMuch));
  const size_t taken = application_.SendUntilItStops(request);
  EXPECT_LT(taken, kBound);
  std::thread sending([&] { application_.Send(std::string_view(request).substr(taken)); });
  EXPECT_TRUE(broker_.Receive(request.size()) == request);
  sending.join();
}

TEST_F(SlowReaderTest, AtTheApplicationStopsTheBroker) {
  Open();
  const std::string request = RequestFrameOf(ApiKey::kListOffsets, 1, "");
  application_.Send(request);
  EXPECT_EQ(broker_.Receive(request.size()), request);
  const std::string response = ResponseFrameOf(1, Pattern(kMuch));
  const size_t taken = broker_.SendUntilItStops(response);
  EXPECT_LT(taken, kBound);
  std::thread answering([&] { broker_.Send(std::string_view(response).substr(taken)); });
  EXPECT_TRUE(application_.Receive(response.size()) == response);
  answering.join();
}

}  // namespace
}  // namespace kveil::proxy
