// APIs that nobody wants go through byte for byte beside the wanted ones, and so do their answers. An API or a version
// that Kafka up to 4.4 does not have may carry anything: it ends the connection, and nothing of it is forwarded.
#include <gtest/gtest.h>

#include <limits>

#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

constexpr int16_t kLast = std::numeric_limits<int16_t>::max();
constexpr int16_t kFirst = std::numeric_limits<int16_t>::min();

class RelayedApisTest : public ConnectionTest {
 protected:
  // Nothing of it reaches the broker; what came before it does, and is answered.
  void ExpectRefused(const std::string& request, std::string_view reason) {
    Open();
    const std::string before = RequestFrameOf(ApiKey::kListOffsets, 1, "before");
    application_.Send(before + request);
    EXPECT_EQ(broker_.Receive(before.size()), before);
    const std::string answer = ResponseFrameOf(1, "answer");
    broker_.Send(answer);
    EXPECT_EQ(application_.Receive(answer.size()), answer);
    EXPECT_EQ(broker_.Receive(1), "") << reason;
    broker_.Close();
    EXPECT_EQ(Result(), "unsupported") << reason;
  }
};

TEST_F(RelayedApisTest, PassInEveryVersionThatKafkaHas) {
  Open();
  int32_t correlationId = 1;
  for (int16_t key = 0; kafka::IsKnown(static_cast<ApiKey>(key)); ++key) {
    const auto api = static_cast<ApiKey>(key);
    for (const int16_t version : {int16_t{0}, kafka::LatestVersion(api)}) {
      SCOPED_TRACE(StrCat(key, " ", version));
      ++correlationId;
      const std::string request = RequestFrameOf(api, correlationId, Pattern(200), version);
      application_.Send(request);
      ASSERT_EQ(broker_.Receive(request.size()), request);
      const std::string response = ResponseFrameOf(correlationId, Pattern(30, static_cast<uint32_t>(correlationId)));
      broker_.Send(response);
      ASSERT_EQ(application_.Receive(response.size()), response);
    }
  }
}

class UnknownApisTest : public RelayedApisTest, public testing::WithParamInterface<int16_t> {};

TEST_P(UnknownApisTest, EndTheConnectionWhateverTheirNumber) {
  ExpectRefused(RequestFrameOf(static_cast<ApiKey>(GetParam()), 2, Pattern(2000), 0), StrCat("API ", GetParam()));
}

// Among them numbers that equal a known API in their lower bits.
INSTANTIATE_TEST_SUITE_P(Numbers, UnknownApisTest,
                         testing::Values(int16_t{95}, int16_t{127}, int16_t{128}, int16_t{128 + 18}, int16_t{256 + 1},
                                         kLast, int16_t{-1}, int16_t{-127}, kFirst));

class UnknownVersionsTest : public RelayedApisTest, public testing::WithParamInterface<int16_t> {};

TEST_P(UnknownVersionsTest, EndTheConnection) {
  ExpectRefused(RequestFrameOf(ApiKey::kOffsetCommit, 2, Pattern(2000), GetParam()), StrCat("version ", GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Numbers, UnknownVersionsTest,
                         testing::Values(int16_t(kafka::LatestVersion(ApiKey::kOffsetCommit) + 1), kLast, int16_t{-1},
                                         kFirst));

}  // namespace
}  // namespace kveil::proxy
