// APIs that nobody wants, and APIs that do not exist yet: whatever their number, version and content, they go through
// byte for byte beside the wanted ones, and so do their answers.
#include <gtest/gtest.h>

#include <limits>

#include "connection_fixture.h"

namespace kveil::proxy {
namespace {

constexpr int16_t kNewestKnown = 94;
constexpr int16_t kLast = std::numeric_limits<int16_t>::max();
constexpr int16_t kFirst = std::numeric_limits<int16_t>::min();

// An interceptor that wants every API that this build knows, and closes the connection on each.
class UnknownApis : public ConnectionTest {
 protected:
  UnknownApis() {
    std::vector<ApiKey> known;
    for (int16_t key = 0; key <= kNewestKnown; ++key) known.push_back(static_cast<ApiKey>(key));
    Intercept(std::move(known))->onRequest = [](const RequestFrame& request, FrameOutput&) {
      return RequestVerdict::Close(
          StrCat("API ", static_cast<int16_t>(request.header.apiKey), " was taken for wanted"));
    };
  }

  void ExpectPassed(const std::string& request, int32_t correlationId) {
    application_.Send(request);
    ASSERT_EQ(broker_.Receive(request.size()), request);
    const std::string response = ResponseFrameOf(correlationId, Pattern(300, static_cast<uint32_t>(correlationId)));
    broker_.Send(response);
    ASSERT_EQ(application_.Receive(response.size()), response);
  }
};

TEST_F(UnknownApis, passByteForByteWhateverTheirNumber) {
  Open();
  int32_t correlationId = 1;
  // Among them numbers that equal a wanted API in their lower bits.
  for (const int16_t key :
       {int16_t{95}, int16_t{127}, int16_t{128}, int16_t{128 + 18}, int16_t{200}, int16_t{256}, int16_t{256 + 1},
        int16_t{4096}, kLast, int16_t{-1}, int16_t{-128}, int16_t{-127}, int16_t{-256}, kFirst, int16_t{kFirst + 3}}) {
    SCOPED_TRACE(key);
    ++correlationId;
    ExpectPassed(RequestFrameOf(static_cast<ApiKey>(key), correlationId, Pattern(2000)), correlationId);
  }
}

TEST_F(UnknownApis, passInAnyVersion) {
  Open();
  int32_t correlationId = 1;
  for (const int16_t version : {int16_t{0}, int16_t{99}, kLast, int16_t{-1}, kFirst}) {
    SCOPED_TRACE(version);
    ++correlationId;
    ExpectPassed(RequestFrameOf(static_cast<ApiKey>(200), correlationId, "body", version), correlationId);
  }
}

// What follows the correlation id may be laid out in a way that is not known today.
TEST_F(UnknownApis, passWithAHeaderThatCannotBeRead) {
  Open();
  const std::string start = StrCat(BigEndian(200, 2), BigEndian(3, 2), BigEndian(7, 4));
  for (const std::string& rest : {std::string(), std::string("\x7f"), std::string("\x7f\xff too short"),
                                  std::string("\xff\xfe a negative length"), Pattern(70'000)}) {
    SCOPED_TRACE(rest.size());
    ExpectPassed(Framed(StrCat(start, rest)), 7);
  }
}

TEST_F(UnknownApis, passInAPipelineInOrder) {
  Open();
  std::string requests;
  std::string responses;
  for (int32_t id = 0; id < 1000; ++id) {
    const auto key = static_cast<ApiKey>(id % 2 == 0 ? 200 + id : -id);
    requests += RequestFrameOf(key, id, Pattern(static_cast<size_t>(id), 1));
    responses += ResponseFrameOf(id, Pattern(static_cast<size_t>(id), 2));
  }
  application_.Send(requests);
  EXPECT_EQ(broker_.Receive(requests.size()), requests);
  broker_.Send(responses);
  EXPECT_EQ(application_.Receive(responses.size()), responses);
}

}  // namespace
}  // namespace kveil::proxy
